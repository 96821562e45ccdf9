"""Steps of a plain run, recorded once and replayed, give the weights of steps that are made one by one."""

import pytest
import torch
from helpers import GPU, classifier, loader, run_cfg, same, train, weights
from mmengine.config import Config
from mmengine.runner import Runner
from recorded_graph import RecordedGraph

from mmsskd.distill.schedule.captured_step import CapturedSteps
from mmsskd.errors import ConfigError, NonFiniteLossError


def run(folder, hooks, lr=0.05, **wrapper) -> None:
    torch.manual_seed(0)
    cfg = dict(
        model=classifier(depth=8, width=0.25),
        train_dataloader=loader(count=85, batch_size=16),
        train_cfg=dict(by_epoch=True, max_epochs=2),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=lr, momentum=0.9, weight_decay=1e-3), **wrapper),
        default_scope='mmpretrain',
        work_dir=str(folder),
        experiment_name=str(folder).replace('/', '_'),
        custom_hooks=hooks,
        randomness=dict(seed=0),
        default_hooks=dict(checkpoint=dict(type='CheckpointHook', interval=1)),
    )
    Runner.from_cfg(Config(cfg)).train()


@pytest.fixture(autouse=True)
def recorded(monkeypatch):
    if not GPU:
        monkeypatch.setattr(CapturedSteps, 'graph', RecordedGraph)
    monkeypatch.setattr(RecordedGraph, 'replayed', 0)


def test_weights_are_those_of_steps_made_one_by_one(tmp_path):
    run(tmp_path / 'captured', [dict(type='mmsskd.CapturedStepsHook')])
    assert GPU or RecordedGraph.replayed == 2 * 5 - 3  # smaller last batches, and the first steps, are made as always
    run(tmp_path / 'plain', [])
    torch.testing.assert_close(
        *(weights(tmp_path / name / 'epoch_2.pth') for name in ('captured', 'plain')), rtol=1e-3, atol=1e-4
    )


def test_a_loss_that_is_not_finite_ends_the_run(tmp_path):
    with pytest.raises(NonFiniteLossError, match=r'iteration \d+ of the run: loss=nan'):
        run(tmp_path, [dict(type='mmsskd.CapturedStepsHook')], lr=1e30)


def test_what_cannot_be_recorded_is_said_once_and_made_as_always(tmp_path, caplog):
    run(tmp_path / 'captured', [dict(type='mmsskd.CapturedStepsHook')], accumulative_counts=2)
    run(tmp_path / 'plain', [], accumulative_counts=2)
    assert RecordedGraph.replayed == 0
    assert same(*(weights(tmp_path / name / 'epoch_2.pth') for name in ('captured', 'plain')))
    (log,) = (tmp_path / 'captured').glob('*/*.log')
    assert log.read_text().count('cuda_graph: training runs without: gradients are accumulated') == 1


def test_a_schedule_has_a_word_of_its_own(tmp_path, teacher_path):
    with pytest.raises(
        ConfigError, match='remove it from custom_hooks, and set cuda_graph=True in the StageScheduleHook'
    ):
        train(run_cfg(tmp_path, teacher_path, custom_hooks=[dict(type='mmsskd.CapturedStepsHook')]))
