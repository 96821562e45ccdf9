"""Pages are good on a phone and on a desktop, light and dark, and for who does not see them."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgb
from pages import AXE, BROWSER, CHROME, PLAYWRIGHT, check_html, faults_in_browser

from mmsskd.compare.page import _curves, _gaps, build_page, colors_of
from mmsskd.compare.plan import Arm, Plan
from mmsskd.compare.statistics import GapClosed
from mmsskd.compare.tables import Row, Table
from mmsskd.face.plots import det_figure, roc_figure
from mmsskd.visualization.history import History
from mmsskd.visualization.plots import detections, feature_maps
from mmsskd.visualization.report import Report
from mmsskd.visualization.sections import add_phases, add_stages

STAGES = 'layer1', 'layer2', 'layer3', 'layer4'


def every_plot() -> Report:
    """All that the pages of demos and of one call are made of, with long names."""
    report = Report('/a/folder/with/a/long/name/' * 4 + 'resnet34.py teaches resnet18')
    report.text('Made by: python tools/demo.py --out ' + 'a_long_folder_name/' * 6)
    columns = ['network', 'accuracy, %', 'parameters', 'MACs', 'gap closed', 'seconds']
    report.table(
        'Results', columns, [['plain student, names of 2 pictures a person', '98.16', '5 K', '1 M', '-', '42']]
    )
    records = [
        {f'val/relative_error_{name}': 1 / (epoch + k) for k, name in enumerate(STAGES)} | dict(step=epoch)
        for epoch in range(1, 5)
    ]
    add_stages(report, History(records, []), 'the test images')
    phases = [dict(train=STAGES[: k + 1], mimic=STAGES[:1], length=3, task_loss=k == 3) for k in range(4)]
    add_phases(report, phases, 'What trains when.')
    add_phases(report, phases[:2], 'The same again.')
    features = dict.fromkeys(('teacher', 'student'), [torch.rand(6, 2, 4, 4)] * 4)
    report.figure(feature_maps(torch.rand(6, 3, 4, 4), features, STAGES), 'What they see.', 'Grid of feature maps.')
    box = np.array([[0.0, 0.0, 3.0, 3.0]]), np.array([0]), np.array([0.5])
    found = {f'network {k}': [box] * 2 for k in range(6)}
    report.figure(detections([np.zeros((9, 9, 3), np.uint8)] * 2, found, ['a']), 'Boxes.', 'Grid of photos with boxes.')
    curves = dict(teacher=dict(curves=dict(roc=dict(far=[0.1, 1.0], rate=[0.5, 1.0], over=2))))
    for figure in (roc_figure(curves), det_figure(curves)):
        report.figure(figure, '1:1.', 'Curves of the rates of teacher.')
    return report


def comparison() -> Report:
    names = 'plain student', 'knowledge distillation with a long name', 'stage by stage'
    plan = Plan(
        title='A comparison',
        metric='accuracy/top1',
        teacher='t.py',
        arms=[Arm(name=name, config='x.py', plain=names[0]) for name in names],
        epochs=9,
    )
    rows = [
        Row(
            name=name,
            scores=(80.0, 82.0 + number),
            epochs=(2, 3),
            seconds=1.0,
            parameters=10,
            plain=None if number < 2 else names[0],
            gap=None if number < 2 else GapClosed(0.5, 0.2, 0.9),
            curves=([[1, 50.0], [2, 60.0 + number]],),
            stages={stage: dict(relative_error=0.5, cka=0.5) for stage in STAGES},
            classes={f'class {k}': 50.0 + k * number for k in range(10)},
        )
        for number, name in enumerate(('teacher', *names))
    ]
    return build_page(plan, [Table('equal epochs', rows, 2), Table('equal seconds', rows, 2)], {}, 'python x')


@pytest.fixture(scope='module')
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp('pages')
    pages = dict(every_plot=every_plot(), comparison=comparison())
    for name, report in pages.items():
        report.write(folder / f'{name}.html')
    return [folder / f'{name}.html' for name in pages]


@pytest.mark.slow
def test_the_html_of_each_page(written):
    for path in written:
        check_html(path.read_text())


def test_an_arm_has_one_color_in_all_plots():
    rows = [
        Row(name=name, scores=(80.0,), epochs=(2, 3), seconds=1.0, parameters=10)
        for name in ['teacher', 'plain', 'arm']
    ]
    colors = colors_of(rows[1:])
    gaps = _gaps([replace(rows[2], gap=GapClosed(0.5, 0.2, 0.9))], colors)
    curves = _curves('accuracy/top1', [replace(rows[2], curves=([[1, 50.0], [2, 60.0]],))], colors)
    assert gaps.axes[0].patches[0].get_facecolor()[:3] == to_rgb(curves.axes[0].lines[0].get_color()) == colors['arm']
    assert all(tick == int(tick) for tick in curves.axes[0].get_xticks())


@pytest.mark.slow
def test_numbers_stand_beside_the_plots(written):
    text = written[0].read_text()
    assert '<th scope="row">layer2</th><td>0.500 (epoch 1)</td><td>0.200 (epoch 4)</td>' in text
    assert 'layer2: from 0.500 (epoch 1) to 0.200 (epoch 4)' in text
    assert (
        '<td>10 to 12</td><td class="text">layer1, layer2, layer3, layer4</td><td class="text">features + task</td>'
        in text
    )
    text = written[1].read_text()
    assert '<td>50.00 (epoch 1)</td><td>62.00 (epoch 2)</td>' in text
    assert '<th scope="row">class 9</th><td>+9.0</td><td>+18.0</td>' in text


@pytest.mark.slow
@pytest.mark.skipif(
    not BROWSER,
    reason=f'Chromium on PATH or CHROME_PATH: {CHROME}; axe.min.js in AXE_PATH: {AXE}; playwright: {PLAYWRIGHT is not None}',
)
def test_pages_in_a_browser(written, tmp_path):
    """No error on the console, nothing wider than the screen, no serious finding of axe; and a bad page is found."""
    assert faults_in_browser(written) == []
    (tmp_path / 'bad.html').write_text(
        '<title>bad</title><p style="width: 2000px; color: #999; background: #aaa">dim</p><script>undefined_name()</script>'
    )
    faults = '\n'.join(faults_in_browser([tmp_path / 'bad.html']))
    assert 'pixels wide' in faults and 'color-contrast' in faults and 'undefined_name' in faults
