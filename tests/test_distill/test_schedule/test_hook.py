"""The schedule in a real Runner: what is frozen, what the learning rate does, what is validated, what is saved."""

import json
import re

import pytest
import torch
from helpers import classifier, loader, run_cfg, same, save_weights, train, weights
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

from mmsskd import StageScheduleHook
from mmsskd.distill.losses import AgreementMeter
from mmsskd.distill.schedule import runner_state
from mmsskd.errors import ConfigError, NonFiniteLossError


@HOOKS.register_module()
class Recorder(Hook):
    """Notes what a run does, iteration by iteration."""

    priority = 'VERY_LOW'

    def __init__(self):
        self.lrs, self.updates, self.validated, self.loaders, self.groups, self.momenta = [], [], [], [], [], []

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        self.lrs.append(runner.optim_wrapper.get_lr()['lr'][0])
        self.loaders.append(len(data_batch['inputs']))
        self.groups.append({id(p) for group in runner.optim_wrapper.param_groups for p in group['params']})
        self.momenta.append(len(runner.optim_wrapper.optimizer.state))

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.updates.append(runner.optim_wrapper.should_update())

    def before_val(self, runner):
        self.validated.append(runner.epoch)


def recorder(runner) -> Recorder:
    return next(hook for hook in runner.hooks if isinstance(hook, Recorder))


def stage_of(name: str) -> str:
    part = name.split('.')[1] if name.startswith('backbone.') else 'head'
    return 'layer1' if part in ('conv1', 'bn1') else part


def changed(before: dict, after: dict) -> set[str]:
    return {
        stage_of(name)
        for name in before
        if not name.startswith('adapters') and not torch.equal(before[name], after[name])
    }


@pytest.mark.slow
@pytest.mark.parametrize('iters', [None, 3])
def test_each_phase_moves_its_own_part_and_nothing_else_by_a_bit(tmp_path, teacher_path, iters):
    runner = train(run_cfg(tmp_path, teacher_path, iters=iters))
    ends = [weights(tmp_path / f'phase{i}_layer{i}.pth') for i in (1, 2, 3)]
    last = weights(tmp_path / ('epoch_4.pth' if iters is None else 'iter_12.pth'))
    assert changed(ends[0], ends[1]) == {'layer2'}
    assert changed(ends[1], ends[2]) == {'layer3'}
    assert changed(ends[2], last) == {'head'}
    statistics = [name for name in last if 'running_mean' in name and 'layer2' in name]
    assert statistics and not same(ends[0], ends[1], statistics)  # the stage that trains does move its BN
    assert runner.max_epochs == (4 if iters is None else 1) and runner.max_iters == 12


def test_first_phase_leaves_later_stages_as_they_were_initialised(tmp_path, teacher_path):
    cfg = run_cfg(tmp_path, teacher_path, hook=dict(phases=[dict(train='layer1')]))
    from mmengine.runner import Runner

    runner = Runner.from_cfg(cfg)
    runner.model.init_weights()
    before = {name: value.clone() for name, value in runner.model.state_dict().items()}
    runner.train()
    assert changed(before, runner.model.state_dict()) == {'layer1'}


@pytest.mark.slow
@pytest.mark.parametrize(
    ('phases', 'moved'),
    [
        ([dict(train=['layer1', 'layer2'], mimic='layer2')], {'layer1', 'layer2'}),  # earlier stages kept training
        ([dict(train='stages')], {'layer1', 'layer2', 'layer3'}),  # all stages at once
        ([dict(train='stages', mimic='layer3')], {'layer1', 'layer2', 'layer3'}),  # the last stage only
        (
            [dict(train='all', mimic='layer3', task_loss=True)],
            {'layer1', 'layer2', 'layer3', 'head'},
        ),  # task loss added
        ([dict(train='all')], {'layer1', 'layer2', 'layer3', 'head'}),  # end-to-end fine-tuning
    ],
)
def test_other_schedules_are_other_lists(tmp_path, teacher_path, phases, moved):
    runner = train(run_cfg(tmp_path, teacher_path, hook=dict(phases=[dict(train='layer1'), *phases])))
    assert changed(weights(tmp_path / 'phase1_layer1.pth'), runner.model.state_dict()) == moved


def test_head_from_teacher(tmp_path):
    small = classifier(depth=8)
    checkpoint = save_weights(small, tmp_path / 'teacher.pth')
    phases = [
        dict(train='layer1'),
        dict(train='head', optim_wrapper=dict(optimizer=dict(type='SGD', lr=1e-300))),
    ]
    head = {'model.init_from_teacher': 'head'}
    runner = train(run_cfg(tmp_path, checkpoint, teacher=small, student=small, hook=dict(phases=phases), **head))
    teacher = weights(checkpoint)
    assert same(teacher, runner.model.state_dict(), ['head.fc.weight', 'head.fc.bias'])


def test_task_metric_is_measured_from_where_the_head_is_the_teachers(tmp_path):
    small = classifier(depth=8)
    checkpoint = save_weights(small, tmp_path / 'teacher.pth')
    last = dict(train='stages', mimic='layer3')
    phases = [
        dict(train='layer1'),
        dict(last, name='copied', epochs=2),
        dict(last, name='last'),
    ]
    head = {'model.init_from_teacher': 'head'}
    train(run_cfg(tmp_path, checkpoint, teacher=small, student=small, hook=dict(phases=phases), **head))
    scalars = [json.loads(line) for line in next(tmp_path.glob('*/vis_data/scalars.json')).read_text().splitlines()]
    measured = [line['step'] for line in scalars if 'accuracy/top1' in line]
    assert measured == [2, 3, 4]  # not after the first phase, where the head would get features of an untrained stage


def test_head_from_a_teacher_with_another_head_is_refused(tmp_path, teacher_path):
    student = classifier(depth=8, width=1)
    cfg = run_cfg(tmp_path, teacher_path, student=student, **{'model.init_from_teacher': 'head'})
    with pytest.raises(
        ConfigError,
        match=r'init_from_teacher=.head.*\n  other shape \(1\): head.fc.weight \(10, 32\) \(model: \(10, 64\)\)',
    ):
        train(cfg)


@pytest.mark.slow
@pytest.mark.parametrize('iters', [None, 6])
def test_learning_rate_of_three_phases_is_that_of_three_separate_runs(tmp_path, teacher_path, iters):
    if iters is None:
        recipe = dict(
            epochs=2,
            optim_wrapper=dict(optimizer=dict(type='SGD', lr=1.0)),
            param_scheduler=[
                dict(type='LinearLR', start_factor=0.1, by_epoch=False, end=3),
                dict(type='MultiStepLR', by_epoch=True, milestones=[1], gamma=0.1),
            ],
        )
    else:
        recipe = dict(
            iters=6,
            optim_wrapper=dict(optimizer=dict(type='SGD', lr=1.0)),
            param_scheduler=[
                dict(type='LinearLR', start_factor=0.1, by_epoch=False, end=3),
                dict(type='CosineAnnealingLR', by_epoch=False, begin=3),
            ],
        )
    phases = [dict(train=stage, **recipe) for stage in ('layer1', 'layer2', 'layer3')]
    together = recorder(
        train(
            run_cfg(
                tmp_path / 'all',
                teacher_path,
                iters=iters,
                hook=dict(phases=phases),
                custom_hooks=[dict(type='Recorder')],
            )
        )
    ).lrs
    alone = run_cfg(
        tmp_path / 'alone',
        teacher_path,
        iters=iters,
        hook=dict(phases=phases[:1]),
        custom_hooks=[dict(type='Recorder')],
    )
    assert len(together) == 18 and together == 3 * recorder(train(alone)).lrs
    assert together[:3] == pytest.approx([0.1, 0.55, 1.0])  # the warm-up is there, and starts again with each phase
    assert together[6:9] == pytest.approx([0.1, 0.55, 1.0])


@pytest.mark.slow
def test_default_schedule_of_a_transfer_phase_warms_up_and_ends_near_zero(tmp_path, teacher_path):
    cfg = run_cfg(tmp_path, teacher_path, hook=dict(transfer=dict(epochs=10)), custom_hooks=[dict(type='Recorder')])
    cfg.default_hooks.stage_schedule.phases = [dict(train='layer1'), dict(train='layer2')]
    cfg.default_hooks.checkpoint.interval = 99
    cfg.val_dataloader = cfg.val_evaluator = cfg.val_cfg = None
    lrs = recorder(train(cfg)).lrs
    assert lrs[:30] == lrs[30:] and max(lrs[:30]) == pytest.approx(0.01)
    assert lrs[0] == pytest.approx(0.0004) and lrs[29] < 0.0002


def test_optimiser_holds_only_what_trains_and_starts_without_state(tmp_path, teacher_path):
    runner = train(run_cfg(tmp_path, teacher_path, custom_hooks=[dict(type='Recorder')]))
    record, model = recorder(runner), runner.model
    for phase, stage in enumerate(('layer1', 'layer2', 'layer3')):
        expected = {id(p) for name, p in model.student.named_parameters() if stage_of(name) == stage}
        assert record.groups[3 * phase] == expected
    assert [record.momenta[i] == 0 for i in range(12)] == [True, False, False] * 4


def test_gradient_accumulation_ends_with_its_phase(tmp_path, teacher_path):
    """Three iterations a phase in windows of two: the last, half a window, is stepped rather than carried over."""
    wrapper = dict(accumulative_counts=2, optimizer=dict(type='SGD', lr=0.1))
    cfg = run_cfg(tmp_path, teacher_path, custom_hooks=[dict(type='Recorder')])
    cfg.default_hooks.stage_schedule.update(
        transfer=dict(epochs=1, optim_wrapper=wrapper), head=dict(epochs=1, optim_wrapper=wrapper)
    )
    assert recorder(train(cfg)).updates == [False, True, True] * 4


def test_validation_with_the_task_metric_only_where_the_head_trains(tmp_path, teacher_path):
    cfg = run_cfg(tmp_path, teacher_path, custom_hooks=[dict(type='Recorder')])
    cfg.default_hooks.checkpoint.save_best = 'auto'
    phases = [dict(train='layer1'), dict(train='head', epochs=2), dict(train='layer2'), dict(train='all')]
    cfg.default_hooks.stage_schedule.phases = phases
    runner = train(cfg)
    assert recorder(runner).validated == [2, 3, 5]
    scalars = [json.loads(line) for line in next(tmp_path.glob('*/vis_data/scalars.json')).read_text().splitlines()]
    assert [line['step'] for line in scalars if 'val/relative_error_layer1' in line] == [1]
    assert [line['step'] for line in scalars if 'val/relative_error_layer2' in line] == [4]


def test_best_checkpoint_is_not_compared_across_phases(tmp_path, teacher_path):
    cfg = run_cfg(tmp_path, teacher_path)
    cfg.default_hooks.checkpoint.save_best = 'accuracy/top1'
    harmless, harmful = dict(type='SGD', lr=1e-300), dict(type='SGD', lr=1e4)
    cfg.default_hooks.stage_schedule.phases = [
        dict(train='head', optim_wrapper=dict(optimizer=harmless)),
        dict(train='head', name='worse', optim_wrapper=dict(optimizer=harmful)),
    ]
    runner = train(cfg)
    best = {path.name for path in tmp_path.glob('best_*')}
    assert best == {'best_accuracy_top1_epoch_1.pth', 'best_accuracy_top1_epoch_2.pth'}
    assert runner.message_hub.get_info('best_ckpt').endswith('epoch_2.pth')


def test_phase_with_its_own_unlabelled_loader(tmp_path, teacher_path):
    cv2 = pytest.importorskip('cv2')
    import numpy as np

    folder = tmp_path / 'images'
    folder.mkdir()
    for i in range(10):
        cv2.imwrite(str(folder / f'{i}.png'), np.random.default_rng(i).integers(0, 255, (8, 8), dtype=np.uint8))
    unlabelled = dict(
        batch_size=5,
        num_workers=0,
        dataset=dict(
            type='CustomDataset',
            data_root=str(folder),
            with_label=False,
            pipeline=[dict(type='LoadImageFromFile', color_type='grayscale'), dict(type='PackInputs')],
        ),
        sampler=dict(type='DefaultSampler', shuffle=True),
    )
    cfg = run_cfg(tmp_path / 'run', teacher_path, custom_hooks=[dict(type='Recorder')])
    cfg.default_hooks.stage_schedule.transfer = dict(epochs=2, train_dataloader=unlabelled)
    cfg.default_hooks.checkpoint.interval = 100
    runner = train(cfg)
    assert recorder(runner).loaders == [5] * 12 + [32] * 3
    assert runner.max_iters == 15


def test_iteration_based_phases_draw_from_their_own_loaders(tmp_path, teacher_path):
    cfg = run_cfg(tmp_path, teacher_path, iters=3, custom_hooks=[dict(type='Recorder')])
    cfg.default_hooks.stage_schedule.phases = [
        dict(train='layer1', train_dataloader=loader(batch_size=7, infinite=True)),
        dict(train='layer2'),
    ]
    assert recorder(train(cfg)).loaders == [7, 7, 7, 32, 32, 32]


def test_teacher_is_measured_once_and_printed_beside_the_student(tmp_path, teacher_path, caplog):
    runner = train(run_cfg(tmp_path, teacher_path, log_level='INFO'))
    log = next(tmp_path.glob('*/*.log')).read_text()
    teacher = runner.message_hub.get_info('teacher_metrics')['accuracy/top1']
    assert log.count('teacher on the validation set') == 1
    assert f'| teacher: accuracy/top1: {teacher:.4f}' in log
    model = runner.model.teacher
    correct = 0
    for data in runner.val_dataloader:
        batch = runner.model.data_preprocessor(data, False)
        prediction = model(batch['inputs'], mode='tensor').argmax(1)
        correct += sum(int(p == s.gt_label) for p, s in zip(prediction, batch['data_samples']))
    assert teacher == pytest.approx(100 * correct / 50, abs=1e-3)


def test_teacher_need_not_be_measured(tmp_path, teacher_path):
    runner = train(run_cfg(tmp_path, teacher_path, hook=dict(evaluate_teacher=False)))
    assert 'teacher_metrics' not in runner.message_hub.runtime_info


def test_log_says_phase_and_epoch_and_one_eta(tmp_path, teacher_path):
    cfg = run_cfg(tmp_path, teacher_path, log_level='INFO')
    cfg.default_hooks.stage_schedule.transfer = dict(epochs=2)
    train(cfg)
    log = next(tmp_path.glob('*/*.log')).read_text()
    assert re.search(r'phase 2/4 layer2 epoch 2/2$', log, re.MULTILINE)
    with_eta = [line for line in log.splitlines() if re.search(r'\beta\b', line)]
    assert with_eta and all(re.search(r'Epoch\((train|val)\).* eta: ', line) for line in with_eta)  # MMEngine's alone
    last = [line for line in log.splitlines() if re.search(r'Epoch\(train\) +\[7\]', line)][-1]
    assert 'layer' not in last  # no stale values of earlier phases in the head phase


def test_non_finite_loss_stops_before_the_step(tmp_path, teacher_path):
    cfg = run_cfg(tmp_path, teacher_path)
    cfg.default_hooks.stage_schedule.transfer = dict(epochs=1, optim_wrapper=dict(optimizer=dict(type='SGD', lr=1e38)))
    with pytest.raises(
        NonFiniteLossError, match=r'phase 1/4 layer1, iteration \d+ of the run.*Lower the learning rate'
    ):
        train(cfg)
    saved = list(tmp_path.glob('non_finite_iter_*.pth'))
    assert len(saved) == 1 and weights(saved[0]).keys() >= {'backbone.conv1.weight', 'head.fc.weight'}
    assert not torch.load(saved[0], weights_only=False)['stage_schedule']['gradients'], 'or a resume would add them'
    assert not list(tmp_path.glob('*.part'))


def test_transfer_beneath_the_teachers_head_is_as_meant(tmp_path, teacher_path):
    """So the configs of CIFAR-100 and the recipe 'projector' do it; a warning in each such run would hide those that matter."""
    cfg = run_cfg(tmp_path, teacher_path, hook=dict(phases=[dict(train='stages')]), log_level='INFO')
    cfg.model.init_from_teacher = 'head'
    train(cfg)
    assert 'no phase trains the head' not in next(tmp_path.glob('*/*.log')).read_text()


def test_transfer_without_head_is_legal_and_says_so(tmp_path, teacher_path):
    cfg = run_cfg(tmp_path, teacher_path, hook=dict(phases=[dict(train='layer1')]), log_level='INFO')
    train(cfg)
    assert 'no phase trains the head' in next(tmp_path.glob('*/*.log')).read_text()
    assert (tmp_path / 'student.pth').is_file()


def test_run_without_validation_set(tmp_path, teacher_path):
    cfg = run_cfg(tmp_path, teacher_path)
    for key in ('val_dataloader', 'val_evaluator', 'val_cfg'):
        cfg.pop(key)
    train(cfg)
    assert (tmp_path / 'student.pth').is_file()


def test_learning_rates_are_scaled_with_the_batch_size_of_each_phase(tmp_path, teacher_path):
    """Batch 32 against a base of 16: twice the rate; a phase with batches of 8: half."""
    cfg = run_cfg(tmp_path, teacher_path, custom_hooks=[dict(type='Recorder')])
    cfg.auto_scale_lr = dict(enable=True, base_batch_size=16)
    constant = dict(optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1)), param_scheduler=[])
    own = dict(constant, train_dataloader=loader(count=24, batch_size=8))
    cfg.default_hooks.stage_schedule.phases = [dict(train='layer1', **constant), dict(train='head', **own)]
    assert recorder(train(cfg)).lrs == pytest.approx([0.2] * 3 + [0.05] * 3)


def test_equal_loaders_of_phases_are_one(tmp_path, teacher_path):
    cfg = run_cfg(tmp_path, teacher_path)
    cfg.default_hooks.stage_schedule.transfer.train_dataloader = loader(count=64)
    hook = next(hook for hook in train(cfg).hooks if isinstance(hook, StageScheduleHook))
    assert (
        len(hook.schedule.loaders) == 4
        and len(set(hook.schedule.loaders)) == 2
        and hook.schedule.loaders[0] is hook.schedule.loaders[2]
    )


def test_optimiser_constructors_see_the_names_of_the_student(tmp_path, teacher_path):
    """Rates by name and by depth are written for the student's own names."""
    cfg = run_cfg(tmp_path, teacher_path, student=classifier(depth=8, width=0.25))
    keys = {'backbone.layer1': dict(lr_mult=0.1), 'adapters.layer1': dict(lr_mult=0.0)}
    wrapper = dict(optimizer=dict(type='SGD', lr=0.1), paramwise_cfg=dict(custom_keys=keys))
    cfg.default_hooks.stage_schedule.phases = [dict(train='layer1', optim_wrapper=wrapper, param_scheduler=[])]
    runner = train(cfg)
    rates = {id(p): group['lr'] for group in runner.optim_wrapper.param_groups for p in group['params']}
    named = {name: rates[id(p)] for name, p in runner.model.named_parameters() if id(p) in rates}
    assert named['student.backbone.conv1.weight'] == 0.1
    assert named['student.backbone.layer1.0.conv1.weight'] == pytest.approx(0.01)
    assert named['adapters.layer1.levels.0.0.weight'] == 0
    assert 'adapters' not in dict(runner.model.student.named_children())


def test_features_are_validated_at_val_interval_and_at_the_end_of_a_phase(tmp_path, teacher_path):
    hook = dict(phases=[dict(train='layer1', epochs=3), dict(train='layer2', epochs=1)])
    cfg = run_cfg(tmp_path, teacher_path, hook=hook)
    cfg.train_cfg.val_interval = 2
    train(cfg)
    (path,) = tmp_path.glob('*/vis_data/scalars.json')
    records = [json.loads(line) for line in path.read_text().splitlines()]
    steps = [
        (stage, r['step']) for r in records for stage in ('layer1', 'layer2') if f'val/relative_error_{stage}' in r
    ]
    assert steps == [('layer1', 2), ('layer1', 3), ('layer2', 4)]


def test_an_iteration_based_run_lets_go_of_loaders_that_no_later_phase_needs(tmp_path, teacher_path):
    """Their workers and their copies of the data set end with them."""
    other = loader(infinite=True, batch_size=16)
    hook = dict(phases=[dict(train='layer1', train_dataloader=other), dict(train='layer2')])
    runner = train(run_cfg(tmp_path, teacher_path, iters=2, hook=hook))
    assert list(runner.train_loop.dataloader_iterator.iterators) == [runner.train_loop.dataloader]


@pytest.mark.slow
@pytest.mark.parametrize('resume', [False, True])
def test_a_recipe_is_switched_on_the_student_within_the_head_phase(tmp_path, teacher_path, resume):
    """mmpretrain's hook looks for `head.loss_module` in the model of the run."""
    loss = dict(type='LabelSmoothLoss', label_smooth_val=0.1, num_classes=10)
    cfg = run_cfg(tmp_path, teacher_path, hook=dict(phases=[dict(train='layer1'), dict(train='head', epochs=2)]))
    cfg.custom_hooks = [dict(type='SwitchRecipeHook', schedule=[dict(action_epoch=2, loss=loss, batch_augments=None)])]
    runner = train(cfg)
    if resume:
        again = run_cfg(tmp_path / 'again', teacher_path, hook=cfg.default_hooks.stage_schedule.to_dict())
        again.update(custom_hooks=cfg.custom_hooks, resume=True, load_from=str(tmp_path / 'epoch_2.pth'))
        runner = train(again)
        assert same(weights(tmp_path / 'epoch_3.pth'), weights(tmp_path / 'again/epoch_3.pth'))
    assert type(runner.model.student.head.loss_module).__name__ == 'LabelSmoothLoss'


@HOOKS.register_module()
class Noting(Hook):
    """Writes into checkpoints and notes what is in them."""

    seen = []

    def before_save_checkpoint(self, runner, checkpoint):
        checkpoint['meta']['note'] = 'mine'
        keys = sorted(key for key in checkpoint if key != 'stage_schedule')  # whose hook may come after this one
        epoch = checkpoint['meta']['epoch'], checkpoint['meta']['iter']
        self.seen.append((keys, sorted(checkpoint['meta']), sorted(checkpoint['message_hub']), epoch))


def test_hooks_find_in_the_last_checkpoint_what_is_in_every_other(tmp_path, teacher_path):
    Noting.seen.clear()
    cfg = run_cfg(tmp_path, teacher_path, hook=dict(phases=[dict(train='layer1')]), custom_hooks=[dict(type='Noting')])
    train(cfg)
    of_the_epoch, of_the_student = Noting.seen
    assert of_the_epoch == of_the_student
    assert (tmp_path / 'student.pth').is_file()


@pytest.mark.slow
def test_agreement_is_measured_where_it_is_logged_and_the_log_is_the_same(tmp_path, teacher_path, monkeypatch):
    def log_of(name):
        measured = []
        of = AgreementMeter.of
        monkeypatch.setattr(AgreementMeter, 'of', lambda *pair: measured.append(0) or of(*pair))
        cfg = run_cfg(tmp_path / name, teacher_path, iters=3, hook=dict(evaluate_teacher=False))
        cfg.default_hooks.logger.interval = 2
        train(cfg)
        monkeypatch.setattr(AgreementMeter, 'of', of)
        (path,) = (tmp_path / name).glob('*/vis_data/scalars.json')
        records = [json.loads(line) for line in path.read_text().splitlines()]
        return len(measured), [{k: v for k, v in record.items() if 'time' not in k} for record in records]

    count, log = log_of('due')
    monkeypatch.setattr(runner_state, 'is_logged', lambda runner, batch_idx: True)
    every, full = log_of('always')
    assert every - count == 4  # of 9: 2, 4, 6 and 8 are logged, and 3, the last of its epoch, may be
    assert sum('relative_error_layer2' in record for record in log) >= 1
    assert log == full
