"""The dry run: with the weights and the epoch of the real run, and nothing is different after it."""

import copy

import pytest
import torch
from helpers import classifier, loader, run_cfg, same, train, weights
from mmengine.hooks import Hook
from mmengine.logging import MessageHub
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from mmpretrain.models import LinearClsHead
from mmpretrain.registry import MODELS, TRANSFORMS
from torch.utils.data import BatchSampler, Sampler

from mmsskd import StagewiseDistiller
from mmsskd.errors import ConfigError


@MODELS.register_module()
class CountingHead(LinearClsHead):
    """Counts, remembers and changes all that a head might; notes what it finds in the dry run, where no gradient is built."""

    found = []

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.calls, self.cache, self.epoch = 0, dict(seen=[]), None
        self.register_buffer('steps', torch.zeros(()))

    def loss(self, feats, data_samples):
        hub = MessageHub.get_current_instance()
        self.calls, self.epoch = self.calls + 1, hub.get_info('epoch')
        self.cache['seen'].append(len(data_samples))
        self.steps += 1
        if not torch.is_grad_enabled():
            self.found.append((self.fc.weight.clone(), self.epoch, hub.get_info('iter'), self.training))
            self.fc.weight.add_(1.0)  # a momentum encoder does it like this
            self.register_buffer('queue', torch.randn(2))
            self.borrowed = self.fc
            hub.update_info('said_by_the_head', 1)
            hub.update_scalar('said/by_the_head', 1.0)
        return super().loss(feats, data_samples)


def snapshot(runner) -> dict:
    """All but what entering a phase changes: modes, and the logged values of the phase before."""
    head, hub = runner.model.student.head, runner.message_hub
    counted = {key: value for key, value in vars(head).items() if not key.startswith('_') and key != 'training'}
    return dict(
        state={name: value.clone() for name, value in runner.model.state_dict().items()},
        head=copy.deepcopy(counted),
        modules=[name for name, _ in runner.model.named_modules()],
        infos=lasting(hub.runtime_info),
        scalars={key: value.data[0].tolist() for key, value in lasting(hub.log_scalars).items()},
        resumed=lasting(hub._resumed_keys),
        random=torch.get_rng_state().tolist(),
    )


def lasting(values: dict) -> dict:
    return {key: value for key, value in values.items() if not key.startswith(('train/', 'val/', 'best_'))}


@HOOKS.register_module()
class Snapshots(Hook):
    """Before and after StageScheduleHook's part of before_train."""

    taken = []

    def before_train(self, runner):
        self.taken.append(snapshot(runner))


def counting(folder, teacher_path, **kwargs):
    student = classifier(depth=8)
    student['head'] = dict(type='CountingHead', num_classes=10, in_channels=32, topk=(1,))
    cfg = run_cfg(folder, teacher_path, student=student, **kwargs)
    cfg.default_hooks.stage_schedule.evaluate_teacher = False
    cfg.custom_hooks = [dict(type='Snapshots', priority=priority) for priority in ('VERY_HIGH', 'ABOVE_NORMAL')]
    CountingHead.found.clear()
    Snapshots.taken.clear()
    return cfg


def unchanged() -> dict:
    before, after = Snapshots.taken
    state = before.pop('state')
    assert same(state, after.pop('state'))
    assert before == after
    return state


@pytest.mark.slow
@pytest.mark.parametrize('iters', [None, 2])
def test_nothing_is_different_after_it(tmp_path, teacher_path, iters):
    """Weights, buffers, what a head counts and remembers, modules, the message hub, random states."""
    runner = train(counting(tmp_path, teacher_path, iters=iters))
    state = unchanged()
    ((weight, epoch, iteration, training),) = CountingHead.found
    assert torch.equal(weight, state['head.fc.weight'])  # initialised
    assert (epoch, iteration, training) == ((3, 9, True) if iters is None else (0, 6, True))
    assert runner.model.student.head.calls == (3 if iters is None else 2)


@pytest.mark.slow
def test_it_sees_the_weights_of_load_from_and_of_a_resume(tmp_path, teacher_path):
    cfg = counting(tmp_path / 'whole', teacher_path)
    cfg.default_hooks.stage_schedule.head.epochs = 2
    train(cfg)
    for cut, resume in (
        (2, True),
        (3, True),
        (4, True),
        (4, False),
    ):  # inside the transfer, at a border, inside the head
        again = counting(tmp_path / f'{cut}{resume}', teacher_path)
        again.default_hooks.stage_schedule.head.epochs = 2
        again.load_from, again.resume = str(tmp_path / f'whole/epoch_{cut}.pth'), resume
        train(again)
        unchanged()
        assert torch.equal(CountingHead.found[0][0], weights(again.load_from)['head.fc.weight'])
        if resume:
            assert same(weights(tmp_path / 'whole/epoch_5.pth'), weights(again.work_dir + '/epoch_5.pth'))


@TRANSFORMS.register_module()
class Unreadable:
    def __call__(self, results):
        raise OSError('this image cannot be read')


def unreadable(cfg):
    broken = loader()
    broken['dataset']['pipeline'].insert(0, dict(type='Unreadable'))
    cfg.default_hooks.stage_schedule.head.train_dataloader = broken
    return r'phase 4 of 4 \(head\): the first 2 images of its loader cannot be read: OSError: this image cannot be read'


def unbuildable(cfg):
    cfg.default_hooks.stage_schedule.head.param_scheduler = [dict(type='Cosin')]
    return r'phase 4 of 4 \(head\): its optim_wrapper or param_scheduler cannot be built'


def endless(cfg):
    cfg.train_dataloader.sampler.type = 'InfiniteSampler'
    return (
        r'^train_dataloader: InfiniteSampler never ends, but this run counts epochs. Set sampler=dict\(type=.DefaultSampler.'
        '.*IterBasedTrainLoop'
    )


def endless_in_a_phase(cfg):
    own = dict(loader(infinite=True), batch_sampler=dict(type=BatchSampler, drop_last=True))
    cfg.default_hooks.stage_schedule.transfer.train_dataloader = own
    return r'train_dataloader of phase 1 \(layer1\): InfiniteSampler never ends'


@pytest.mark.parametrize('wrong', [unreadable, unbuildable, endless, endless_in_a_phase])
def test_what_needs_no_weights_is_refused_before_they_are_initialised(tmp_path, teacher_path, monkeypatch, wrong):
    cfg = run_cfg(tmp_path, teacher_path)
    message = wrong(cfg)
    monkeypatch.setattr(StagewiseDistiller, 'init_weights', lambda self: pytest.fail('too late'))
    with pytest.raises(ConfigError, match=message):
        Runner.from_cfg(cfg).train()


class Circle(Sampler):
    """Never ends, and nobody can know."""

    def __init__(self, dataset, **kwargs):
        self.size = len(dataset)

    def __len__(self):
        return self.size

    def __iter__(self):
        while True:
            yield from range(self.size)


def test_an_epoch_that_goes_on_and_on_is_stopped(tmp_path, teacher_path):
    cfg = run_cfg(tmp_path, teacher_path)
    cfg.train_dataloader.sampler = dict(type=Circle)
    with pytest.raises(
        ConfigError, match=r'phase layer1: its loader \(.*Circle\) has given 6 batches in one epoch, twice'
    ):
        train(cfg)
