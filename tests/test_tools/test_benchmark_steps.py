"""A step of the package beside one written by hand, in operations: on a GPU each is launched by Python."""

import re
import sys
from collections import Counter

import pytest
from distill_helpers import build, phase
from helpers import ROOT, classifier, is_detection, is_face, require_ops, save_weights
from mmengine.config import Config
from mmengine.registry import DefaultScope
from recorded_graph import RecordedGraph
from torch.utils._python_dispatch import TorchDispatchMode

from mmsskd.distill import losses
from mmsskd.distill.schedule.captured_step import CapturedSteps


class Operations(TorchDispatchMode):
    """Counts what is dispatched in the body."""

    def __init__(self):
        super().__init__()
        self.names = Counter()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.names[str(function)] += 1
        return function(*args, **(kwargs or {}))


def named_configs() -> list[str]:
    """The pairs that `docs/speed.md`, `tests/gpu_check.sh` and the tool's own default time."""
    texts = [(ROOT / file).read_text() for file in ('docs/speed.md', 'tests/gpu_check.sh', 'tools/benchmark.py')]
    names = re.findall(r'\bsskd/(\w+)\.py', ''.join(texts)) + re.findall(
        r'^ +benchmark (\w+).*--profile', texts[1], re.MULTILINE
    )
    return sorted(set(names))


def test_named_configs():
    assert {'imagenet_r50_r18', 'cifar100_r56_r20', 'faster_rcnn_r101_r50'} <= set(named_configs())


@pytest.mark.parametrize('name', named_configs())
def test_the_schemes_do_equal_work_on_every_config_that_is_named(name, monkeypatch):
    """A config whose loss, projector or stages change cannot leave the loop by hand behind unseen."""
    monkeypatch.setattr(sys, 'path', [str(ROOT / 'tools'), *sys.path])
    path = ROOT / f'configs/sskd/{name}.py'
    cfg = Config.fromfile(path)
    require_ops(cfg)
    smaller = {}  # what takes most of the time: widths, people, boxes
    if is_face(path):
        smaller = dict(backbone=dict(base_channels=8), neck=dict(in_channels=64), head=dict(num_classes=10))
    elif is_detection(path):
        smaller = dict(
            backbone=dict(base_channels=8),
            neck=dict(in_channels=[32, 64, 128, 256]),
            roi_head=dict(bbox_head=dict(fc_out_channels=16)),
            train_cfg=dict(rcnn=dict(sampler=dict(num=16))),
        )
    cfg.merge_from_dict(dict(model=dict(teacher=smaller, student=smaller)))
    import benchmark

    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        side = 112 if is_face(path) else 64 if is_detection(path) else 32  # the neck of a face model knows one size
        distiller, batch = benchmark.make_pair(cfg, (side, side), 2)
        layers = [stage for stage in distiller.stages if stage.startswith('layer')]
        assert all(benchmark.steps.in_backbone(distiller, stage) for stage in layers), 'they count in the sum'
        phases = benchmark.timed_phases(cfg, distiller, head=is_detection(path))
        for phase in phases[-2:]:
            benchmark.check_equal_work(distiller, phase, batch)


def test_a_network_that_no_loop_by_hand_knows_is_timed_without_one(monkeypatch, capsys):
    monkeypatch.setattr(sys, 'path', [str(ROOT / 'tools'), *sys.path])
    import benchmark

    cfg = Config.fromfile(ROOT / 'configs/sskd/cifar100_r50_mobilenetv2.py')
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        distiller, batch = benchmark.make_pair(cfg, (32, 32), 2)
        first, *_ = benchmark.timed_phases(cfg, distiller, head=False)
        missing = benchmark.check_equal_work(distiller, first, batch)
        row = benchmark.measure(distiller, first, batch, rounds=1)
    assert list(missing) == ['bare'] and 'compares features of the same places' in missing['bare']
    assert list(row['seconds']) == ['mmsskd', 'full', 'unfrozen']
    both = dict(stage='layer4', seconds=dict(row['seconds'], bare=1.0), memory=dict(row['memory'], bare=2**20))
    benchmark.show([row, both, benchmark.total_of([row, both])], benchmark.TRANSFER_RATIOS)
    head, *lines = capsys.readouterr().out.strip().splitlines()[-4:]
    assert ' bare ' in head and [line.split().count('-') for line in lines] == [8, 5, 8]


def test_captured_columns(tmp_path, monkeypatch, capsys):
    """Their steps do the work of the others; on a CPU they are '-'."""
    monkeypatch.setattr(sys, 'path', [str(ROOT / 'tools'), *sys.path])
    import benchmark
    import benchmark_steps

    monkeypatch.setattr(benchmark_steps, 'CudaGraph', RecordedGraph)
    monkeypatch.setattr(CapturedSteps, 'graph', RecordedGraph)
    teacher, student = classifier(in_channels=3), classifier(depth=8, in_channels=3)
    for model in (teacher, student):
        model['data_preprocessor'] = dict(type='mmpretrain.ClsDataPreprocessor', mean=[127.5] * 3, std=[127.5] * 3)
    path = save_weights(teacher, tmp_path / 'teacher.pth')
    model = build(path, teacher=teacher, student=student, input_shape=(3, 8, 8))
    phase(model, train='layer2').train()
    batch = benchmark_steps.make_batch(model, (3, 8, 8), 8, 'cpu')
    before = {name: value.clone() for name, value in model.state_dict().items()}
    losses = {}
    for name, make in (benchmark.TRANSFER | benchmark.CAPTURED).items():
        step, _ = make(model, model.phase)
        for _ in range(5):  # the fourth and fifth of a graph are replayed
            model.load_state_dict(before)
            losses[name] = step(batch)['loss'].item()
    assert RecordedGraph.replayed >= 4
    assert all(loss == pytest.approx(losses['mmsskd'], rel=1e-4) for loss in losses.values()), losses
    seconds = dict(mmsskd=0.2, bare=0.1, full=1, unfrozen=1)
    benchmark.show([dict(stage='layer1', seconds=seconds, memory=seconds)], benchmark.TRANSFER_RATIOS)
    benchmark.draw(
        [dict(stage='layer1', seconds=seconds), dict(stage='head', seconds=dict(mmsskd=1, stock=1))],
        tmp_path / 'bars.png',
    )
    assert (tmp_path / 'bars.png').read_bytes().startswith(b'\x89PNG')
    head, *_, line = capsys.readouterr().out.strip().splitlines()
    assert 'mmsskd captured' in head and line.split().count('-') == 5  # two columns and their ratio; torchdistill's


def test_a_step_has_few_operations_beyond_those_of_a_loop_by_hand(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, 'path', [str(ROOT / 'tools'), *sys.path])
    import benchmark_steps

    monkeypatch.setattr(losses, 'channel_variance', losses._variance_in_few_kernels)  # as on a GPU
    teacher, student = classifier(in_channels=3), classifier(depth=8, in_channels=3)
    for model in (teacher, student):
        model['data_preprocessor'] = dict(type='mmpretrain.ClsDataPreprocessor', mean=[127.5] * 3, std=[127.5] * 3)
    path = save_weights(teacher, tmp_path / 'teacher.pth')
    model = build(path, teacher=teacher, student=student, input_shape=(3, 8, 8))
    phase(model, train='layer2').train()
    model.measures_agreement = False  # as in all iterations but those that are logged
    batch = benchmark_steps.make_batch(model, (3, 8, 8), 64, 'cpu')
    counts = {}
    for make in (benchmark_steps.package_step, benchmark_steps.bare_step):
        step, _ = make(model, model.phase)
        with Operations() as operations:
            step(batch)
        counts[make.__name__] = operations.names
    extra = counts['package_step'] - counts['bare_step']
    assert extra.total() <= 20, extra
