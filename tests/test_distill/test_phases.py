"""A schedule is checked before anything runs."""

import pytest
from helpers import parse_phases
from mmengine.config import Config

from mmsskd.distill.phases import is_stagewise, schedule_hook
from mmsskd.errors import ConfigError
from mmsskd.registry import type_name

STAGES = ['layer1', 'layer2', 'layer3']
RUN = dict(type='AmpOptimWrapper', loss_scale='dynamic', optimizer=dict(type='SGD', lr=0.1))


def parse(phases=None, unit='epochs', transfer=None, head=None, optim=RUN, scheduler=None):
    default = {unit: 2}
    return parse_phases(phases, STAGES, unit, transfer or default, head or default, optim, scheduler)


def test_default_keeps_the_earlier_stages_in_training():
    phases = parse()
    assert [(p.name, p.train, p.mimic, p.task_loss) for p in phases] == [
        ('layer1', ('layer1',), ('layer1',), False),
        ('layer2', ('layer1', 'layer2'), ('layer1', 'layer2'), False),
        ('layer3', ('layer1', 'layer2', 'layer3'), ('layer1', 'layer2', 'layer3'), False),
        ('head', ('head',), (), True),
    ]


def test_literal_is_each_stage_alone_then_the_head():
    phases = parse('sskd_literal', transfer=dict(epochs=3), head=dict(epochs=5))
    assert [(p.name, p.train, p.mimic, p.task_loss, p.begin, p.end) for p in phases] == [
        ('layer1', ('layer1',), ('layer1',), False, 0, 3),
        ('layer2', ('layer2',), ('layer2',), False, 3, 6),
        ('layer3', ('layer3',), ('layer3',), False, 6, 9),
        ('head', ('head',), (), True, 9, 14),
    ]


def test_then_all_ends_with_everything_from_ground_truth():
    phases = parse('sskd_then_all', transfer=dict(epochs=1), head=dict(epochs=16))
    assert phases[:3] == parse('sskd_kept', transfer=dict(epochs=1), head=dict(epochs=16))[:3]
    last = phases[3]
    assert (last.name, last.train, last.mimic, last.task_loss) == ('all', (*STAGES, 'head'), (), True)
    assert (last.begin, last.end) == (3, 19)


def test_words_and_order():
    phases = parse(
        [dict(train='stages'), dict(train='all', mimic=['layer3', 'layer1']), dict(train=['layer2', 'layer1'])]
    )
    assert phases[0].train == tuple(STAGES) == phases[0].mimic and phases[0].name == 'stages'
    assert phases[1].train == (*STAGES, 'head') and phases[1].mimic == ('layer1', 'layer3') and phases[1].name == 'all'
    assert phases[2].train == ('layer1', 'layer2') and phases[2].name == 'layer1+layer2'


def test_recipes_fall_back_from_phase_to_kind_to_run():
    own = dict(optimizer=dict(type='AdamW', lr=1.0))
    phases = parse(
        [
            dict(train='layer1'),
            dict(train='layer2', optim_wrapper=own),
            dict(train='head'),
            dict(train='all', optim_wrapper=own),
        ],
        scheduler=dict(type='MultiStepLR', milestones=[1]),
    )
    assert phases[0].optim_wrapper['optimizer']['type'] == 'Adam' and phases[0].param_scheduler is None
    assert phases[1].optim_wrapper['optimizer']['type'] == 'AdamW'
    assert phases[2].optim_wrapper == RUN and phases[2].param_scheduler == [
        dict(type='MultiStepLR', milestones=[1], end=2)
    ]
    # mixed precision of the run holds in every phase
    assert {p.optim_wrapper['type'] for p in phases} == {'AmpOptimWrapper'}
    assert {p.optim_wrapper['loss_scale'] for p in phases} == {'dynamic'}
    assert own == dict(optimizer=dict(type='AdamW', lr=1.0))


def test_mixed_precision_of_the_run_holds_where_a_phase_writes_the_plain_wrapper():
    wrapper = dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=1.0), clip_grad=dict(max_norm=1))
    (phase,) = parse([dict(train='head', optim_wrapper=wrapper)])
    assert phase.optim_wrapper == dict(wrapper, type='AmpOptimWrapper', loss_scale='dynamic')
    plain = dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=0.1))
    (phase,) = parse([dict(train='head', optim_wrapper=wrapper)], optim=plain)
    assert phase.optim_wrapper == wrapper


def test_a_wrapper_without_an_optimizer_adds_to_the_default():
    adam, sgd = dict(type='Adam', lr=0.01), dict(optimizer=dict(type='SGD', lr=0.1), clip_grad=dict(max_norm=9))
    clip, twice = dict(clip_grad=dict(max_norm=1)), dict(accumulative_counts=2)
    phases = parse(
        [dict(train='layer1'), dict(train='layer2', optim_wrapper=clip), dict(train='head', optim_wrapper=twice)],
        transfer=dict(epochs=2, optim_wrapper=twice),
        optim=sgd,
    )
    assert phases[0].optim_wrapper == dict(optimizer=adam, **twice)
    assert phases[1].optim_wrapper == dict(
        optimizer=adam, **twice, **clip
    )  # the phase, then transfer, then the default
    assert phases[2].optim_wrapper == dict(sgd, **twice)
    own = dict(optimizer=dict(type='Adam', lr=1.0))
    (phase,) = parse([dict(train='head')], head=dict(epochs=2, optim_wrapper=own), optim=sgd)
    assert phase.optim_wrapper == own  # with an optimizer of its own it is the whole wrapper, as ever
    with pytest.raises(
        ConfigError, match=r'must have the form dict\(optimizer=dict\(type.* found .*accumulative_counts'
    ):
        parse([dict(train='head', optim_wrapper=twice)], optim=None)


@pytest.mark.parametrize(
    ('phases', 'message'),
    [
        ([], 'must be a non-empty list of dicts'),
        ([3], 'phase 1 of 1 must be a dict with some of name, .* found 3'),
        (
            [dict(train='layer1', optim_wrapper=dict(type='Adam', lr=1))],
            r'must have the form dict\(optimizer=dict\(type',
        ),
        ([dict(train='layer1', param_scheduler=dict(by_epoch=False))], 'a param_scheduler needs a type'),
        ([dict(train='layer1', param_scheduler='cosine')], 'param_scheduler must be a dict or a list of dicts'),
        (
            [dict(train='layer1', param_scheduler=dict(type='CosineAnnealingLR', begin=5))],
            'CosineAnnealingLR begins at 5, but the phase has only 2 epochs',
        ),
        ([dict(train='head', task_loss='False')], "task_loss must be True or False, found 'False'"),
        ([dict(train='head', name='a/b')], "name must be letters.* found 'a/b'"),
        ([dict(train=[['layer1']])], r"unknown stage \['layer1'\]"),
        ([dict(train='layer4')], r"phase 1 of 1: train: unknown stage 'layer4'; did you mean 'layer3'\?"),
        ([dict(train=[])], r'phase 1 of 1: train must name at least one of layer1, layer2, layer3, head'),
        ([dict()], 'train must name at least one of'),
        ([dict(train='layer1', mimic='head')], "mimic: unknown stage 'head'"),
        ([dict(train='layer1', epochs=0)], 'epochs must be a whole number of at least 1, found 0; remove the phase'),
        ([dict(train='layer1', epochs=1.5)], 'found 1.5'),
        ([dict(train='layer1', epoch=1)], "unknown field 'epoch'; did you mean 'epochs'"),
        ([dict(train='head', task_loss=False)], 'trains the head without the task loss'),
        ([dict(train='layer2', mimic='layer1')], r"trains \['layer2'\], but no loss reaches beyond 'layer1'"),
        ([dict(train='layer2', mimic=['layer1', 'layer2'])], "mimics 'layer1', but nothing up to it trains"),
        ([dict(train='layer1', mimic=[])], 'neither mimics a stage nor has the task loss'),
        ([dict(train='head', mimic='layer3', task_loss=True)], "mimics 'layer3', but nothing up to it trains"),
    ],
)
def test_what_cannot_work_is_refused(phases, message):
    with pytest.raises(ConfigError, match=message):
        parse(phases)


def test_unit_must_be_that_of_the_loop():
    with pytest.raises(
        ConfigError, match='this run has an iteration-based train loop, so the phase needs `iters`, found epochs=2'
    ):
        parse([dict(train='layer1', epochs=2)], unit='iters', transfer=dict(optim_wrapper=RUN))
    with pytest.raises(ConfigError, match='MultiStepLR counts epochs in an iteration-based run; set by_epoch=False'):
        parse([dict(train='layer1', param_scheduler=dict(type='MultiStepLR', milestones=[1]))], unit='iters')


def test_head_without_any_optimiser():
    with pytest.raises(ConfigError, match='no optim_wrapper; give one in the phase'):
        parse([dict(train='head')], optim=None)


def test_unknown_field_of_a_recipe():
    with pytest.raises(ConfigError, match=r"StageScheduleHook.transfer: unknown field 'lr'"):
        parse(transfer=dict(epochs=1, lr=0.1))


def test_schedules_have_names():
    assert parse('sskd_kept') == parse() != parse('sskd_literal')
    with pytest.raises(ConfigError, match="no schedule 'sskd_litteral'.*sskd_literal"):
        parse('sskd_litteral')


@pytest.mark.parametrize(
    ('phase', 'message'),
    [
        (dict(train='head', logits=1), 'logits must be True or False, found 1'),
        (dict(train='head', task_loss=False, logits=False), 'set task_loss=True or logits=True'),
        (dict(train='head', task_weight=0), 'task_weight must be a number above 0 .*, found 0'),
        (dict(train='head', task_weight=True), 'task_weight must be a number above 0 .*, found True'),
        (dict(train='layer1', task_weight=0.5), 'task_weight=0.5, but there is no task loss'),
        (dict(train='layer1', mimics='layer1'), "unknown field 'mimics'; did you mean 'mimic'"),
        (dict(train='layer1', prefix='teacher'), "'prefix' is gone: measured at nothing; commit 2d8540c had it last"),
        (dict(train='layer1', reload_best=True), "'reload_best' is gone.*2d8540c"),
        (dict(train='layer1', recalibrate_bn=1), "'recalibrate_bn' is gone.*2d8540c"),
        (dict(train='head', head_from_teacher=True), "'head_from_teacher' is gone: set model.init_from_teacher='head'"),
    ],
)
def test_fields_are_checked(phase, message):
    with pytest.raises(ConfigError, match=message):
        parse_phases([dict(phase, epochs=1)], STAGES, 'epochs', optim_wrapper=dict(optimizer=dict(type='SGD')))


def test_what_a_phase_says_of_itself():
    phases = [
        dict(train='all', logits=True, task_weight=0.1),
        dict(train='all', logits=True, task_loss=False),
        dict(train='layer1'),
    ]
    sgd = dict(optimizer=dict(type='SGD'))
    first, second, plain = parse_phases(phases, STAGES, 'epochs', dict(epochs=1), dict(epochs=1), sgd)
    assert first.purpose.endswith("follows the teacher's logits and learns the task (weight 0.1)")
    assert second.mimic == () and second.learns_task and not second.task_loss
    assert (first.fingerprint()['logits'], first.fingerprint()['task_weight']) == (True, 0.1)
    assert (plain.fingerprint()['logits'], plain.fingerprint()['task_weight']) == (False, 1.0)


PURE = """
from mmsskd import StagewiseDistiller, StageScheduleHook

default_scope = 'mmpretrain'
model = dict(type=StagewiseDistiller)
default_hooks = dict(stage_schedule=dict(type=StageScheduleHook, phases='sskd_literal'))
"""


def test_types_may_be_classes(tmp_path):
    """As in MMEngine's pure-Python form."""
    (tmp_path / 'pure.py').write_text(PURE)
    cfg = Config.fromfile(tmp_path / 'pure.py')
    assert is_stagewise(cfg) and schedule_hook(cfg)['phases'] == 'sskd_literal'
    assert not is_stagewise(Config(dict(model=dict(type='mmpretrain.ImageClassifier'))))
    assert [type_name(part) for part in (cfg.model, dict(type='a.B'), dict(type='B'), {}, None)] == [
        'StagewiseDistiller',
        'B',
        'B',
        '',
        '',
    ]
