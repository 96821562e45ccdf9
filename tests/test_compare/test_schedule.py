"""Lengths and rates of schedules that are made longer or shorter."""

import pytest
import torch
from helpers import ROOT, classifier
from mmengine.config import Config
from mmengine.registry import PARAM_SCHEDULERS

from mmsskd.compare.schedule import phase_epochs, set_epochs, stage_names, stretch
from mmsskd.errors import ConfigError


@pytest.mark.parametrize(
    ('epochs', 'total', 'expected'),
    [
        ([6, 6, 6, 2], 20, [6, 6, 6, 2]),
        ([6, 6, 6, 2], 40, [12, 12, 12, 4]),
        ([6, 6, 6, 2], 10, [3, 3, 3, 1]),
        ([1, 1, 98], 4, [1, 1, 2]),
        ([5], 3, [3]),
        ([1, 2], 2, [1, 1]),
    ],
)
def test_phases_keep_their_shares(epochs, total, expected):
    assert stretch(epochs, total) == expected


def test_phases_are_never_left_out():
    for total in range(4, 60):
        lengths = stretch([30, 1, 5, 9], total)
        assert sum(lengths) == total and min(lengths) >= 1
    with pytest.raises(ConfigError, match='3 epochs are too few for 4 phases'):
        stretch([30, 1, 5, 9], 3)


def test_lengths_of_a_schedule_with_and_without_a_list():
    cfg = Config.fromfile(ROOT / 'configs/sskd/digits_r14x2_r8.py')
    names = stage_names(cfg)
    assert names == ['layer1', 'layer2', 'layer3'] and phase_epochs(cfg, names) == [12, 12, 12, 12]
    set_epochs(cfg, [1, 2, 3, 4], names)
    assert phase_epochs(cfg, names) == [1, 2, 3, 4]
    cfg.default_hooks.stage_schedule.phases = [dict(train='stages'), dict(train='all', epochs=5)]
    assert phase_epochs(cfg, names) == [12, 5]
    cfg.default_hooks.stage_schedule.phases = 'sskd_kept'
    assert phase_epochs(cfg, stage_names(cfg)) == [12, 12, 12, 12]
    plain = Config.fromfile(ROOT / 'configs/plain/digits_r8.py')
    assert stage_names(plain) is None
    set_epochs(plain, [7])
    assert phase_epochs(plain) == [7]
    plain.train_cfg = dict(by_epoch=False, max_iters=5)
    with pytest.raises(ConfigError, match='counts iterations'):
        phase_epochs(plain)


def test_rates_follow_the_length():
    """mmdet's 1x at half its length drops at half its milestones; a warm-up counts iterations and stays."""
    plain = Config.fromfile(ROOT / 'configs/plain/digits_r8.py')
    warm_up = dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=500)
    steps = dict(type='MultiStepLR', begin=0, end=12, by_epoch=True, milestones=[8, 11], gamma=0.1)
    plain.train_cfg.max_epochs, plain.param_scheduler = 12, [warm_up, steps]
    set_epochs(plain, [6])
    assert plain.param_scheduler == [warm_up, dict(steps, end=6, milestones=[4, 6])] and plain.train_cfg.max_epochs == 6

    cfg = Config.fromfile(ROOT / 'configs/sskd/digits_r14x2_r8.py')
    cfg.param_scheduler = steps  # of the run: for the phases that learn the task and have none of their own
    own = dict(type='CosineAnnealingLR', T_max=10, by_epoch=True, begin=2)
    first = dict(train='layer1', epochs=10, param_scheduler=own)
    cfg.default_hooks.stage_schedule.phases = [first, dict(train='layer2'), dict(train='head', epochs=12)]
    cfg.default_hooks.stage_schedule.head.pop('param_scheduler', None)
    set_epochs(cfg, [5, 12, 24], ['layer1', 'layer2', 'layer3'])
    stretched = cfg.default_hooks.stage_schedule.phases
    assert stretched[0].param_scheduler == [dict(own, T_max=5, begin=1, end=5)]
    assert 'param_scheduler' not in stretched[1]  # as long as before
    assert stretched[2].param_scheduler == [dict(steps, end=24, milestones=[16, 22])]


# what each is given for 12 epochs; mmdet's and mmpretrain's own are MMEngine's by inheritance, or warm-ups
SCHEDULERS = dict(
    Step=dict(step_size=4, gamma=0.5),
    MultiStep=dict(milestones=[4, 8], gamma=0.5),
    Constant=dict(factor=0.5, begin=0, end=6),
    Exponential=dict(gamma=0.8),
    CosineAnnealing=dict(T_max=12, eta_min=0.0),
    Linear=dict(start_factor=0.1, begin=0, end=6),
    Poly=dict(power=2.0, begin=0, end=12),
    OneCycle=dict(eta_max=1.0, total_steps=12, pct_start=0.25),
    CosineRestart=dict(periods=[4, 8], restart_weights=[1, 0.5], eta_min=0.0),
    ReduceOnPlateau=dict(monitor='loss', patience=4, cooldown=2),
)


RATES = [name for name in PARAM_SCHEDULERS.module_dict if name.endswith('LR')]


def rates(scheduler: dict, epochs: int) -> list[float]:
    """What a scheduler makes of a learning rate of 1."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    built, found = PARAM_SCHEDULERS.build(dict(scheduler, optimizer=optimizer)), []
    for _ in range(epochs):
        found.append(optimizer.param_groups[0]['lr'])
        optimizer.step()
        built.step({'loss': 1.0}) if 'ReduceOnPlateau' in scheduler['type'] else built.step()
    return found


@pytest.mark.parametrize('kind', RATES)
def test_every_scheduler_of_mmengine_does_the_same_at_the_same_share_of_a_run(kind):
    plain = Config(dict(train_cfg=dict(by_epoch=True, max_epochs=12), model=dict(type='ImageClassifier')))
    plain.param_scheduler = dict(SCHEDULERS[kind.removesuffix('LR')], type=kind)
    before = rates(plain.param_scheduler, 12)
    set_epochs(plain, [72])
    (stretched,) = plain.param_scheduler
    after = rates(stretched, 72)
    assert len(set(before)) > 1
    # both count whole epochs, so what happens at one of the short run may come an epoch of it early or late
    for epoch, rate in enumerate(before[:-1]):
        around = after[max(6 * (epoch - 1), 0) : 6 * (epoch + 1) + 1]
        assert min(abs(rate - each) for each in around) < 0.06, (epoch, before, after)


def test_a_scheduler_that_cannot_be_stretched_is_refused():
    plain = Config(dict(train_cfg=dict(by_epoch=True, max_epochs=12), model=dict(type='ImageClassifier')))
    for scheduler, words in (
        (dict(type='OneCycleLR', total_steps=100, by_epoch=False), r'OneCycleLR counts iterations \(total_steps\)'),
        (dict(type='ExponentialLR', gamma=0.9, by_epoch=False), r'ExponentialLR counts iterations \(gamma\)'),
        (dict(type='OwnLR', hold_epochs=3), "OwnLR has 'hold_epochs'"),
    ):
        plain.train_cfg.max_epochs, plain.param_scheduler = 12, [scheduler]
        with pytest.raises(ConfigError, match=f'{words}.* from 12 to 6 epochs'):
            set_epochs(plain, [6])
    plain.param_scheduler = [dict(type='CosineAnnealingLR', by_epoch=False, begin=50)]  # to the end, wherever that is
    set_epochs(plain, [6])


def test_a_phase_without_a_length_is_named():
    cfg = Config.fromfile(ROOT / 'configs/sskd/digits_r14x2_r8.py')
    cfg.default_hooks.stage_schedule.phases = [dict(train='layer1', epochs=3), dict(train='head')]
    cfg.default_hooks.stage_schedule.head = None
    with pytest.raises(ConfigError, match='phase 2 of 2 .*the phase needs `epochs`'):
        phase_epochs(cfg, ['layer1', 'layer2', 'layer3'])


def test_a_stage_named_like_a_head_is_a_stage():
    """A phase that trains `rpn_head` from the teacher's features has the length and the rates of `transfer`."""
    cfg = Config.fromfile(ROOT / 'configs/sskd/digits_r14x2_r8.py')
    hook = cfg.default_hooks.stage_schedule
    hook.update(phases=[dict(train='rpn_head'), dict(train='head')], transfer=dict(epochs=4), head=dict(epochs=8))
    cfg.param_scheduler = [dict(type='MultiStepLR', milestones=[6])]
    stages = ['layer1', 'rpn_head']
    assert phase_epochs(cfg, stages) == [4, 8]
    set_epochs(cfg, [2, 4], stages)
    assert [phase.get('param_scheduler') for phase in hook.phases] == [
        None,
        [dict(type='MultiStepLR', milestones=[3], end=4)],
    ]


def test_a_schedule_has_the_stages_that_the_run_will_have():
    """Where the teacher has fewer, one of the student's counts as part of the next."""
    resnet = dict(type='mmpretrain.ResNet_CIFAR', depth=18, base_channels=8, stem_channels=8, in_channels=1)
    student = dict(
        classifier(), backbone=resnet, head=dict(type='mmpretrain.LinearClsHead', num_classes=10, in_channels=64)
    )
    model = dict(type='mmsskd.StagewiseDistiller', teacher=classifier(), student=student, input_shape=(1, 32, 32))
    assert stage_names(Config(dict(model=model))) == ['layer2', 'layer3', 'layer4']
    assert stage_names(Config(dict(model=dict(model, teacher=student)))) == ['layer1', 'layer2', 'layer3', 'layer4']
    assert stage_names(Config(dict(model=student))) is None
