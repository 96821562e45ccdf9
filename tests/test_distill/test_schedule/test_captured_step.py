"""Steps that are recorded once and replayed give the weights, the log and the checkpoints of steps that are made one by one.

On a CPU by :class:`recorded_graph.RecordedGraph`, which bakes in what Python decides, as a CUDA graph does. On a GPU by that.
"""

import json
import logging
import re

import pytest
import torch
from helpers import GPU, Confidence, classifier, loader, run_cfg, same, train, weights  # noqa: F401  a metric
from mmengine.hooks import Hook
from mmengine.registry import HOOKS, MODELS
from recorded_graph import RecordedGraph

from mmsskd.distill.schedule import captured_step
from mmsskd.distill.schedule.captured_step import CapturedSteps
from mmsskd.errors import ConfigError, NonFiniteLossError

ITERS = 9
COSINE = [dict(type='CosineAnnealingLR', T_max=ITERS, by_epoch=False)]
SGD = dict(type='SGD', lr=0.05, momentum=0.9, weight_decay=1e-3, nesterov=True)
ADAM = dict(type='Adam', lr=0.01)


@pytest.fixture(autouse=True)
def recorded(monkeypatch):
    """No GPU is needed."""
    if not GPU:
        monkeypatch.setattr(CapturedSteps, 'graph', RecordedGraph)
    monkeypatch.setattr(RecordedGraph, 'recorded', 0)
    monkeypatch.setattr(RecordedGraph, 'replayed', 0)
    return RecordedGraph


@pytest.fixture
def said(monkeypatch):
    """What is warned of."""
    lines = []
    monkeypatch.setattr(logging.Logger, 'warning', lambda self, text, *args: lines.append(text))
    return lines


def captured(work_dir, teacher_path, iters=ITERS, *, wrapper=None, phases=None, **overrides):
    """A run of iterations whose steps are recorded: layer1, then the head; a learning rate that changes in each."""
    wrapper = wrapper or dict(optimizer=ADAM)
    phases = phases or [dict(train='layer1'), dict(train='head')]
    recipe = dict(iters=iters, optim_wrapper=wrapper, param_scheduler=COSINE)
    hook = dict(cuda_graph=True, phases=phases, transfer=recipe, head=recipe)
    cfg = run_cfg(work_dir, teacher_path, iters=iters, hook=hook, **overrides)
    cfg.default_hooks.logger.interval = 4
    cfg.default_hooks.checkpoint.interval = iters
    return cfg


def plain(cfg, work_dir):
    """The same run, step by step."""
    cfg.work_dir, cfg.experiment_name = str(work_dir), f'{cfg.experiment_name}_plain'
    cfg.default_hooks.stage_schedule.cuda_graph = False
    return cfg


def log_of(work_dir) -> list[dict]:
    lines = [json.loads(line) for line in next(work_dir.glob('*/vis_data/scalars.json')).read_text().splitlines()]
    return [{k: v for k, v in line.items() if k not in ('time', 'data_time', 'memory')} for line in lines]


def assert_equal_runs(one, other, name=f'iter_{2 * ITERS}.pth') -> None:
    """The same weights to float rounding, and the same log."""
    torch.testing.assert_close(weights(one / name), weights(other / name), rtol=1e-3, atol=1e-3)
    assert len(log_of(one)) == len(log_of(other)) > 3
    for line, expected in zip(log_of(one), log_of(other), strict=True):
        assert line == pytest.approx(expected, rel=1e-3, abs=1e-6)


@pytest.mark.parametrize(
    'wrapper',
    [
        dict(optimizer=ADAM),
        pytest.param(
            dict(optimizer=SGD, paramwise_cfg=dict(norm_decay_mult=0.0), clip_grad=dict(max_norm=0.1)),
            marks=pytest.mark.slow,
        ),
    ],
    ids=['adam', 'sgd_groups_clip'],
)
def test_weights_and_log_are_those_of_steps_made_one_by_one(
    tmp_path, teacher_path, recorded, said, monkeypatch, wrapper
):
    cfg = captured(tmp_path / 'captured', teacher_path, wrapper=wrapper)
    train(cfg)
    assert not [line for line in said if 'cuda_graph' in line]
    # three steps of each phase are made first; it has a graph with what is only logged and one without
    assert GPU or (recorded.recorded, recorded.replayed) == (4, 2 * (ITERS - 3))
    train(plain(cfg, tmp_path / 'plain'))
    assert_equal_runs(tmp_path / 'captured', tmp_path / 'plain')
    with monkeypatch.context() as patch:  # the same without a replay, which is the same to the bit
        patch.setattr(captured_step, 'WARM_UP', 2 * ITERS)
        cfg = captured(tmp_path / 'made', teacher_path, wrapper=wrapper)
        train(cfg)
    assert same(*(weights(tmp_path / name / f'iter_{2 * ITERS}.pth') for name in ('made', 'captured')))
    ends = [weights(tmp_path / 'captured' / name) for name in ('phase1_layer1.pth', f'iter_{2 * ITERS}.pth')]
    assert same(*ends, [name for name in ends[0] if not name.startswith('head')])  # frozen, statistics included


def epochs(work_dir, teacher_path, **overrides):
    """Epochs of five batches and a smaller one, features validated after each."""
    dataset = loader(count=85, batch_size=16)
    recipe = dict(epochs=2, optim_wrapper=dict(optimizer=ADAM), param_scheduler=COSINE)
    hook = dict(cuda_graph=True, phases=[dict(train='layer1'), dict(train='head')], transfer=recipe, head=recipe)
    cfg = run_cfg(work_dir, teacher_path, hook=hook, train_dataloader=dataset, **overrides)
    cfg.default_hooks.logger.interval = 4
    return cfg


@pytest.mark.slow
def test_epochs_with_a_smaller_last_batch_validation_and_ema(tmp_path, teacher_path, recorded, said):
    ema = dict(type='EMAHook', begin_epoch=3, momentum=0.3)
    cfg = epochs(tmp_path / 'captured', teacher_path, custom_hooks=[ema])
    train(cfg)
    assert not [line for line in said if 'cuda_graph' in line]
    assert GPU or recorded.replayed == 2 * (2 * 5 - 3 - 1), 'all but the smaller batches and the first logged step'
    train(plain(cfg, tmp_path / 'plain'))
    assert_equal_runs(tmp_path / 'captured', tmp_path / 'plain', 'epoch_4.pth')
    averages = [
        torch.load(tmp_path / name / 'epoch_4.pth', weights_only=False)['ema_state_dict']
        for name in ('captured', 'plain')
    ]
    torch.testing.assert_close(*averages, rtol=1e-3, atol=1e-3)


@pytest.mark.slow
def test_a_resumed_run_is_the_uninterrupted_one_to_the_bit(tmp_path, teacher_path):
    fold = {'model.fold_teacher': True}  # as on a GPU
    cfg = captured(tmp_path, teacher_path, **fold)
    cfg.default_hooks.checkpoint.interval = 5  # 5 and 15 lie within the phases
    model = train(cfg).model
    assert model.step_teacher.copy is not model.teacher
    whole = {name: torch.load(tmp_path / name, weights_only=False) for name in ('iter_10.pth', 'iter_18.pth')}
    for start in (5, 15):
        resumed = captured(tmp_path / f'from_{start}', teacher_path, **fold)
        train(resumed.merge_from_dict(dict(resume=True, load_from=str(tmp_path / f'iter_{start}.pth'))) or resumed)
        last = torch.load(tmp_path / f'from_{start}' / 'iter_18.pth', weights_only=False)
        assert same(last['state_dict'], whole['iter_18.pth']['state_dict'])
        assert str(last['optimizer']) == str(whole['iter_18.pth']['optimizer'])
        logs = [each['message_hub']['log_scalars']['train/loss'].data for each in (last, whole['iter_18.pth'])]
        assert (logs[0][0] == logs[1][0]).all()
    assert not any('teacher' in name for name in last['state_dict'])


@pytest.mark.slow
def test_a_checkpoint_of_recorded_steps_goes_on_without_them(tmp_path, teacher_path):
    """Learning rates are numbers in it, and no option of the optimizer is another one."""
    cfg = captured(tmp_path / 'captured', teacher_path)
    train(cfg)
    groups = torch.load(tmp_path / 'captured' / 'iter_9.pth', weights_only=False)['optimizer']['param_groups']
    assert all(type(group['lr']) is float and not (group['fused'] or group['capturable']) for group in groups)
    cfg = plain(cfg, tmp_path / 'plain')
    cfg.merge_from_dict(dict(resume=True, load_from=str(tmp_path / 'captured' / 'iter_9.pth')))
    train(cfg)
    ends = [weights(tmp_path / name / 'iter_18.pth') for name in ('captured', 'plain')]
    torch.testing.assert_close(*ends, rtol=1e-4, atol=1e-6)


@HOOKS.register_module()
class Spoil(Hook):
    """Gives batches other sizes, or images that are not finite, or the optimizer another momentum, from an iteration on."""

    priority = 'VERY_HIGH'

    def __init__(self, begin, infinite=False, sizes=(), momenta=False):
        self.begin, self.infinite, self.sizes, self.momenta = begin, infinite, sizes, momenta

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter + 1 >= self.begin:
            if self.infinite:
                data_batch['inputs'] = [image.float() * float('inf') for image in data_batch['inputs']]
            if self.sizes:
                side = self.sizes[runner.iter % len(self.sizes)]
                data_batch['inputs'] = [image[:, :side] for image in data_batch['inputs']]
            if self.momenta:
                runner.optim_wrapper.param_groups[0]['betas'] = (0.9 - 0.01 * runner.iter, 0.99)


@pytest.mark.parametrize('begin', [3, 7, 9])
def test_a_loss_that_is_not_finite_is_found_a_step_late_and_its_step_is_not_made(tmp_path, teacher_path, begin):
    """The weights are those before it, although more steps have been made since, and the message names its iteration."""
    cfg = captured(tmp_path, teacher_path, custom_hooks=[dict(type='Spoil', begin=begin, infinite=True)])
    cfg.default_hooks.checkpoint.interval = begin - 1
    with pytest.raises(
        NonFiniteLossError, match=rf'phase 1/2 layer1, iteration {begin} .*loss_mimic_layer1=nan.*before'
    ):
        train(cfg)
    kept = torch.load(tmp_path / f'non_finite_iter_{begin}_rank0.pth', weights_only=False)
    assert kept['meta']['iter'] == begin - 1 and not (tmp_path / f'iter_{begin}.pth').exists()
    before = weights(tmp_path / f'iter_{begin - 1}.pth')
    assert same(before, kept['state_dict'], [name for name in before if 'running' not in name and 'num_b' not in name])


@pytest.mark.slow
def test_another_size_for_good_is_recorded_anew(tmp_path, teacher_path, recorded, said):
    cfg = captured(tmp_path / 'captured', teacher_path, 14, custom_hooks=[dict(type='Spoil', begin=7, sizes=[6])])
    cfg.default_hooks.stage_schedule.phases = [dict(train='layer1')]
    train(cfg)
    assert not [line for line in said if 'cuda_graph' in line]
    assert GPU or (recorded.recorded, recorded.replayed) == (4, 14 - 3 - 3)
    train(plain(cfg, tmp_path / 'plain'))
    assert_equal_runs(tmp_path / 'captured', tmp_path / 'plain', 'iter_14.pth')


@MODELS.register_module()
class ReadingLoss(torch.nn.Module):
    """Looks at a value."""

    def forward(self, student, teacher):
        loss = (student[0] - teacher[0]).square().mean()
        return loss if loss.item() > 0 else 2 * loss


@pytest.mark.parametrize(
    ('changes', 'words'),
    [
        (
            dict(iters=24, sizes=[8, 7, 6, 5]),
            r'shapes of a batch \(now \(32, 1, \d, 8\), before \(32, 1, \d, 8\)\) change',
        ),
        (dict(iters=24, momenta=True), r'options of the optimizer \(betas\) change again and again'),
        (dict(wrapper=dict(optimizer=dict(type='RMSprop', lr=1e-3))), r'is RMSprop; those .* are SGD, Adam, AdamW'),
        (dict(wrapper=dict(optimizer=ADAM, accumulative_counts=3)), r'gradients are accumulated'),
        (dict(loss=dict(type='ReadingLoss')), r'a step reads a value from the GPU in '),
        (dict(with_cp=True), r'activations are computed again in the backward pass \(student.backbone'),
    ],
    ids=['shapes', 'momenta', 'optimizer', 'accumulation', 'reads', 'checkpointing'],
)
def test_where_nothing_can_be_recorded_one_line_says_why(tmp_path, teacher_path, recorded, said, changes, words):
    changes = dict(changes)
    spoil = {key: changes.pop(key) for key in ('sizes', 'momenta') if key in changes}
    hooks = [dict(type='Spoil', begin=1, **spoil)] if spoil else []
    loss, with_cp = changes.pop('loss', None), changes.pop('with_cp', False)
    cfg = captured(tmp_path / 'captured', teacher_path, custom_hooks=hooks, phases=[dict(train='layer1')], **changes)
    if loss:
        cfg.model.mimic_loss = loss
    if with_cp:
        cfg.model.student.backbone.with_cp = True
    train(cfg)
    lines = [line for line in said if line.startswith('cuda_graph')]
    assert len(lines) == 1
    assert re.search(words, lines[0]), lines
    assert recorded.replayed == 0


def test_a_cpu_goes_without(tmp_path, teacher_path, said, monkeypatch):
    monkeypatch.undo()
    cfg = captured(tmp_path, teacher_path, 1)
    lines = []
    monkeypatch.setattr(logging.Logger, 'warning', lambda self, text, *args: lines.append(text))
    train(cfg)
    assert [line for line in lines if 'cuda_graph' in line and '1 warning' not in line] == (
        [] if GPU else ['cuda_graph: the run goes without: there is no GPU']
    )


@pytest.mark.skipif(GPU, reason='a recording that fails may leave the GPU unusable for the tests after it')
def test_a_recording_that_fails_says_what_to_do(tmp_path, teacher_path, monkeypatch):
    monkeypatch.setattr(CapturedSteps.graph, 'watch', staticmethod(lambda step: (step(), None)))
    cfg = captured(tmp_path, teacher_path, phases=[dict(train='layer1')])
    cfg.model.mimic_loss = dict(type='ReadingLoss')
    with pytest.raises(
        ConfigError, match=r'phase 1/1 layer1: its step cannot be recorded .*capturing.*cuda_graph=False'
    ):
        train(cfg)
