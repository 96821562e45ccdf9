"""The demo, on phases of one epoch, and the page that it writes."""

import importlib.util
import json
from html.parser import HTMLParser

import matplotlib.pyplot as plt
import pytest
import torch
from helpers import ROOT, python
from mmengine.config import Config

from mmsskd.errors import ConfigError
from mmsskd.visualization.history import History, read_history
from mmsskd.visualization.plots import feature_maps, mimic_curves, timeline
from mmsskd.visualization.report import Report


@pytest.fixture
def demo(tmp_path, monkeypatch):
    """The demo's module with the same five trainings, each phase one epoch."""
    spec = importlib.util.spec_from_file_location('demo', ROOT / 'tools/demo.py')
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(__import__('sys').modules, 'demo', module)  # its dataclass looks itself up there
    spec.loader.exec_module(module)
    arms = []
    for name, config, plain in module.ARMS:
        lines = [f"_base_ = '{ROOT / 'configs' / config}'", 'train_cfg = dict(max_epochs=1, val_interval=1)']
        if config.startswith('sskd/'):
            lines.append('default_hooks = dict(stage_schedule=dict(transfer=dict(epochs=1), head=dict(epochs=1)))')
        path = tmp_path / config.rpartition('/')[2]
        path.write_text('\n'.join(lines))
        arms.append((name, str(path), plain))
    monkeypatch.setattr(module, 'ARMS', arms)
    return module


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


def test_demo_from_end_to_end(demo, tmp_path):
    out = tmp_path / 'out'
    script = (
        f'import sys; sys.path.insert(0, {str(ROOT / "tools")!r}); import demo; demo.ARMS = {demo.ARMS!r}; demo.main()'
    )
    result = python('-c', script, '--out', out)
    assert result.returncode == 0, result.stderr
    printed = result.stdout
    for name, *_ in demo.ARMS:
        assert f'\n{name} ' in printed
    assert 'phase 3/4 layer3 begins: trains layer3, mimics layer3' in printed and 'teacher on the validation' in printed
    page = Page((out / 'report.html').read_text())
    assert page.tags.count('svg') == 4 and len(page.cells) == 5 * 6
    assert [link for link in page.links if not link.startswith('data:')] == [], (
        'the page must need nothing beside itself'
    )
    accuracies = [float(cell.rstrip(' %')) for cell in page.cells[1::6]]
    for (name, config, _), accuracy in zip(demo.ARMS, accuracies):
        run = out / config.rpartition('/')[2].removesuffix('.py')
        assert read_history(run).last('accuracy/top1') == pytest.approx(accuracy, abs=0.005), name
    assert page.cells[2] == '693 K' or page.cells[2] == '692 K'


def result(demo, name, accuracy):
    return demo.Result(name, None, accuracy, 1000, 2000, 1.0)


def test_no_gap_is_quoted_where_there_is_none(demo):
    """Teacher 98, plain 97.5: a share of half a point would be noise. With few labels, 88: the gap of 10 is."""
    values = [98.0, 97.5, 97.9, 88.0, 95.0]
    rows = demo.table([result(demo, name, value) for (name, *_), value in zip(demo.ARMS, values)])
    assert [row[4] for row in rows] == ['-', '-', 'gap of 0.5', '-', '70 %']
    assert rows[0][1:4] == ['98.00 %', '1 K', '2 K']


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
