"""A step of the package beside one written by hand, in operations: on a GPU each is launched by Python."""

import sys
from collections import Counter

import pytest
from distill_helpers import build, phase
from helpers import ROOT, classifier, save_weights
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
    assert 'mmsskd captured' in head and line.split().count('-') == 3  # two columns and their ratio


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
