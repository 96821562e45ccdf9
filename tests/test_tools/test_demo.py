"""The demo's tasks, on phases of one epoch, and the pages that they write."""

import json
from html.parser import HTMLParser

import demo_classification
import demo_detection
import demo_face
import demo_steps
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from face import write_people
from helpers import ROOT, python, warm_python
from mmengine.config import Config

from mmsskd.datasets.digits_on_photos import write_digits_on_photos
from mmsskd.errors import ConfigError
from mmsskd.face.evaluation.protocols.ijba_writer import write_ijba_shaped
from mmsskd.visualization.history import History, read_history
from mmsskd.visualization.plots import detections, feature_maps, mimic_curves, timeline
from mmsskd.visualization.report import Report


def short_arms(task, folder, count=None) -> list:
    """The same trainings, or the first ``count``, each phase one epoch; the tests of all configs train the others."""
    arms = []
    for name, config, plain in task.arms[:count]:
        lines = [f"_base_ = '{ROOT / 'configs' / config}'", 'train_cfg = dict(max_epochs=1, val_interval=1)']
        if config.startswith('sskd/'):
            schedule = dict(transfer=dict(epochs=1), head=dict(epochs=1))
            phases = Config.fromfile(ROOT / 'configs' / config).default_hooks.stage_schedule.get('phases')
            if phases is not None:
                schedule = dict(phases=[dict(phase, epochs=1) for phase in phases])
            lines.append(f'default_hooks = dict(stage_schedule={schedule!r})')
        path = folder / config.rpartition('/')[2]
        path.write_text('\n'.join(lines))
        arms.append((name, str(path), plain))
    return arms


def run_demo(task_name, arms, out, cwd, start=warm_python):
    script = (
        f'import sys; sys.path.insert(0, {str(ROOT / "tools")!r}); import demo, demo_{task_name} as task; '
        f'task.TASK.arms = {arms!r}; demo.main()'
    )
    result = start('-c', script, task_name, '--out', out, cwd=cwd)
    assert result.returncode == 0, result.stderr
    return result.stdout


class Page(HTMLParser):
    def __init__(self, text: str):
        super().__init__()
        self.tags, self.links, self.cells, self._cell = [], [], [], False
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self._cell = tag == 'td'
        self.links += [value for name, value in attrs if name in ('src', 'href') and not value.startswith('#')]

    def handle_data(self, data):
        if self._cell:
            self.cells.append(data)
            self._cell = False


@pytest.mark.slow
def test_classification(tmp_path):
    out, arms = tmp_path / 'out', short_arms(demo_classification.TASK, tmp_path)
    printed = run_demo('classification', arms, out, tmp_path, python)
    for name, *_ in arms:
        assert f'\n{name} ' in printed
    assert (
        'phase 3/4 layer3 begins: trains layer1, layer2, layer3, mimics layer1, layer2, layer3' in printed
        and 'teacher on the validation' in printed
    )
    page = Page((out / 'classification.html').read_text())
    assert page.tags.count('svg') == 4 and len(page.cells) == 5 * 6
    assert [link for link in page.links if not link.startswith('data:')] == [], (
        'the page must need nothing beside itself'
    )
    for (name, config, _), cell in zip(arms, page.cells[1::6]):
        run = out / config.rpartition('/')[2].removesuffix('.py')
        assert read_history(run).last('accuracy/top1') == pytest.approx(float(cell), abs=0.005), name
    assert page.cells[2] == '693 K' or page.cells[2] == '692 K'


@pytest.mark.slow
def test_detection(tmp_path):
    """On six photos, which it finds in place of the eight hundred that it would write."""
    pytest.importorskip('mmcv.ops', reason='detection needs mmcv with compiled ops', exc_type=ImportError)
    write_digits_on_photos(tmp_path / 'data/digits_on_photos', train=6, val=4, unlabelled=0, size=64)
    out, arms = tmp_path / 'out', short_arms(demo_detection.TASK, tmp_path, 3)
    printed = run_demo('detection', arms, out, tmp_path)
    assert 'phase 2/3 fpn begins: trains layer1, layer2, layer3, layer4, neck, mimics neck' in printed
    assert 'writing digits' not in printed
    page = Page((out / 'detection.html').read_text())
    assert page.tags.count('svg') == 3 and len(page.cells) == 3 * 6
    for (name, config, _), cell in zip(arms, page.cells[1::6]):
        run = out / config.rpartition('/')[2].removesuffix('.py')
        assert 100 * read_history(run).last('coco/bbox_mAP') == pytest.approx(float(cell), abs=0.05), name


@pytest.mark.slow
def test_face(tmp_path):
    """On patterns in place of faces, which it finds in place of those that it would write."""
    write_people(tmp_path / 'data/orl_faces/train', 20, 10, shape=(112, 92))
    write_ijba_shaped(write_people(tmp_path / 'people', 14, 6, first=20, shape=(112, 92)), tmp_path / 'data/orl_ijba')
    out, arms = tmp_path / 'out', short_arms(demo_face.TASK, tmp_path, 3)
    printed = run_demo('face', arms, out, tmp_path)
    assert 'phase 2/2 embedding begins: trains layer1, layer2, layer3, layer4, neck, mimics neck' in printed
    assert 'writing' not in printed
    assert '| recommended, no names |' in printed, 'the numbers of IJB-A, a row for each network'
    page = Page((out / 'face.html').read_text())
    assert page.tags.count('svg') == 5
    for (name, config, _), cell in zip(arms, page.cells[1::6]):
        run = out / config.rpartition('/')[2].removesuffix('.py')
        assert 100 * read_history(run).last('orl/tar@far=1e-2') == pytest.approx(float(cell), abs=0.005), name


def result(name, score):
    return demo_steps.Result(name, None, score, 1000, 2000, 1.0)


def test_no_gap_is_quoted_where_there_is_none():
    """Teacher 98, plain 97.5: a share of half a point would be noise. With few labels, 88: the gap of 10 is."""
    task, values = demo_classification.TASK, [98.0, 97.5, 97.9, 88.0, 95.0]
    rows = demo_steps.table(task, [result(name, value) for (name, *_), value in zip(task.arms, values)])
    assert [row[4] for row in rows] == ['-', '-', 'gap of 0.5', '-', '70 %']
    assert rows[0][1:4] == ['98.00', '1 K', '2 K']


def test_boxes_are_drawn_where_they_are():
    """Two images, two networks: each panel has its own boxes."""
    boxes = np.array([[1.0, 2.0, 5.0, 8.0]])
    found = [(boxes, np.array([3]), np.array([0.75])), (boxes[:0], np.array([], dtype=int), np.array([]))]
    images = [np.zeros((10, 12, 3), np.uint8)] * 2
    figure = detections(images, {'truth': found, 'student': found[::-1]}, tuple('0123456789'))
    panels = [len(axis.patches) for axis in figure.axes]
    assert panels == [1, 0, 0, 1]
    box = figure.axes[0].patches[0]
    assert (box.get_xy(), box.get_width(), box.get_height()) == ((1.0, 2.0), 4.0, 6.0)
    assert figure.axes[0].texts[0].get_text() == '3 75'
    plt.close(figure)


def test_history_reads_the_latest_run(tmp_path):
    for stamp, value in (('20260101_000000', 1.0), ('20260102_000000', 2.0)):
        folder = tmp_path / stamp / 'vis_data'
        folder.mkdir(parents=True)
        records = [dict(loss=9.0, step=3), dict(accuracy=value, step=1), dict(accuracy=value + 1, step=2)]
        (folder / 'scalars.json').write_text('\n'.join(map(json.dumps, records)))
    history = read_history(tmp_path)
    assert history.series('accuracy') == ([1, 2], [2.0, 3.0]) and history.last('accuracy') == 3.0
    with pytest.raises(ConfigError, match="wrote no 'map'"):
        history.last('map')
    with pytest.raises(ConfigError, match='holds no run'):
        read_history(tmp_path / 'elsewhere')


def test_figures_show_what_they_are_given(tmp_path):
    records = [{'val/relative_error_layer1': value, 'step': step} for step, value in ((1, 0.5), (2, 0.25))]
    axes = mimic_curves(History(records, [])).axes[0]
    assert axes.lines[0].get_ydata().tolist() == [0.5, 0.25] and axes.get_legend().texts[0].get_text() == 'layer1: 0.25'
    phases = [
        dict(train=['layer1'], length=2, task_loss=False),
        dict(train=['layer1', 'head'], length=3, task_loss=True),
    ]
    axes = timeline(phases).axes[0]
    bars = [(bar.get_x(), bar.get_width(), bar.get_hatch()) for bar in axes.patches]
    assert bars == [(0, 2, None), (2, 3, '//'), (2, 3, '//')]
    assert [label.get_text() for label in axes.get_yticklabels()] == ['layer1', 'head']
    images = torch.rand(3, 1, 8, 8)
    figure = feature_maps(
        images, {'teacher': [torch.rand(3, 4, 8, 8)], 'student': [torch.rand(3, 2, 8, 8)]}, ['layer1']
    )
    assert len(figure.axes) == 3 * 3
    limits = {axis.images[0].get_clim() for axis in (figure.axes[3], figure.axes[6])}
    assert len(limits) == 1, 'teacher and student share one scale'
    report = Report('a < b')
    report.figure(figure, 'caption')
    report.write(tmp_path / 'page.html')
    assert '<h1>a &lt; b</h1>' in (tmp_path / 'page.html').read_text()
    assert figure.number not in plt.get_fignums(), 'a figure in a report is closed'


def test_demo_configs_take_equal_totals():
    """Plain and stage by stage take the same number of iterations, with all labels and with few."""

    def iterations(name):
        cfg = Config.fromfile(ROOT / f'configs/{name}.py')
        labels = cfg.train_dataloader.dataset.get('indices', 1200)
        per_epoch = -(-labels // cfg.train_dataloader.batch_size)
        if 'stage_schedule' not in cfg.default_hooks:
            return cfg.train_cfg.max_epochs * per_epoch
        schedule = cfg.default_hooks.stage_schedule
        head = schedule.head.get('train_dataloader', cfg.train_dataloader)
        head_epoch = -(-head.dataset.get('indices', 1200) // head.batch_size)
        return 3 * schedule.transfer.epochs * per_epoch + schedule.head.epochs * head_epoch

    assert iterations('sskd/digits_r14x2_r8') == iterations('plain/digits_r8') == 48 * 19
    assert iterations('sskd/digits_r14x2_r8_few_labels') == iterations('plain/digits_r8_few_labels')


def phase_iterations(config, images, batch_size) -> int:
    """Iterations of all phases; those that learn the task may have a loader of their own."""
    schedule = Config.fromfile(ROOT / f'configs/sskd/{config}.py').default_hooks.stage_schedule
    few = schedule.get('head', {}).get('train_dataloader')
    own = images // batch_size if few is None else few.dataset.indices // few.batch_size
    return sum(p.epochs * (own if p.get('task_loss') else images // batch_size) for p in schedule.phases)


def plain_iterations(config, images) -> int:
    cfg = Config.fromfile(ROOT / f'configs/plain/{config}.py')
    indices = cfg.train_dataloader.dataset.get('indices', images)
    return cfg.train_cfg.max_epochs * (
        (len(indices) if isinstance(indices, list) else indices) // cfg.train_dataloader.batch_size
    )


@pytest.mark.slow
def test_face_demo_takes_equal_iterations():
    assert phase_iterations('face_orl_r18_r18', 198, 32) == plain_iterations('face_orl_r18_student', 198) == 90
    assert plain_iterations('face_orl_r18_student_few_labels', 198) == 90


@pytest.mark.slow
def test_detection_demo_takes_equal_iterations():
    assert phase_iterations('digits_on_photos_r34_r18_w16', 800, 8) == 600
    assert phase_iterations('digits_on_photos_r34_r18_w16_few_labels', 800, 8) == 600
    assert plain_iterations('digits_on_photos_r18_w16', 800) == 600
    assert plain_iterations('digits_on_photos_r18_w16_few_labels', 800) == 600
