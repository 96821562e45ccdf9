"""Wrong set-ups of a run are refused or warned of, with their likely cause, and of right ones nothing is said."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import classifier, loader, run_cfg, save_weights, train, weights
from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmpretrain.registry import DATASETS, HOOKS, TRANSFORMS
from PIL import Image

from mmsskd.datasets import Digits
from mmsskd.distill.build import not_finite
from mmsskd.distill.export import export_checkpoint
from mmsskd.distill.schedule import checks
from mmsskd.distill.schedule.data_checks import DataChecks
from mmsskd.errors import ConfigError, NonFiniteLossError


def plain(cfg):
    """The same run without any distillation."""
    cfg.model, cfg.train_cfg = cfg.model.student, dict(by_epoch=True, max_epochs=1)
    cfg.default_hooks.pop('stage_schedule')
    runner = Runner.from_cfg(cfg)
    runner.register_hook(DataChecks())
    runner.train()


@pytest.mark.parametrize('kind', [train, plain])
def test_weights_of_load_from_that_do_not_fit(tmp_path, teacher_path, kind):
    """MMEngine loads what fits, were it nothing, and only logs the rest."""
    state = torch.load(teacher_path)['state_dict']
    files = dict(
        none={f'model.{name}': value for name, value in state.items()},
        few={name: value for name, value in state.items() if 'layer1.0' in name},
    )
    for name, chosen in files.items():
        torch.save(dict(state_dict=chosen), tmp_path / f'{name}.pth')
    cfg = run_cfg(tmp_path / 'none', teacher_path, load_from=str(tmp_path / 'none.pth'))
    with pytest.raises(
        ConfigError, match=r'none.pth\': 0 of the \d+ tensors .*has model.backbone.*model has (adap|back)'
    ):
        kind(cfg)
    assert not list(tmp_path.glob('none/*.pth'))
    cfg = run_cfg(tmp_path / 'few', teacher_path, load_from=str(tmp_path / 'few.pth'))
    kind(cfg)
    assert 'only 12 of the' in next(tmp_path.glob('few/*/*.log')).read_text()


def test_a_phase_that_trains_what_has_no_parameters(tmp_path, teacher_path):
    """As with a classifier within the backbone, VGG's for instance: it belongs to the last stage."""
    cfg = run_cfg(tmp_path, teacher_path)
    cfg.model.student.head = dict(type='ClsHead', loss=dict(type='CrossEntropyLoss'))
    with pytest.raises(ConfigError, match=r'phase 4 \(head\): there is no parameter in what it trains \(head\)'):
        train(cfg)


@pytest.mark.parametrize(('factor', 'phases', 'said'), [(5, None, False), (0, None, True), (0, 'sskd_then_all', False)])
def test_what_is_known_of_far_smaller_students_is_said(tmp_path, teacher_path, monkeypatch, factor, phases, said):
    monkeypatch.setattr(checks, 'FAR_SMALLER', factor)
    cfg = run_cfg(tmp_path, teacher_path, log_level='INFO')
    cfg.default_hooks.stage_schedule.phases = phases
    monkeypatch.setattr(checks, 'check_teacher', None)  # where it would begin to train
    with pytest.raises(TypeError):
        train(cfg)
    assert ('such a schedule lost: 66.9 on CIFAR-100' in next(tmp_path.glob('*/*.log')).read_text()) == said


# -- a table: what is wrong, and the words that say so; beside it, right set-ups of which nothing is said ---------------


class Stopped(Exception):
    """Training would have begun."""


@HOOKS.register_module()
class StopHook(Hook):
    """Ends a run where it would train, for set-ups that must be noticed before."""

    priority = 'LOWEST'

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        raise Stopped


@DATASETS.register_module()
class WrongDigits(Digits):
    """Digits whose labels are changed, by the name of one of ``LABELS``."""

    def __init__(self, label, **kwargs):
        self.label = label
        super().__init__(**kwargs)

    def load_data_list(self):
        items = super().load_data_list()
        return [dict(item, gt_label=LABELS[self.label](item['gt_label'])) for item in items]


@TRANSFORMS.register_module()
class Change:
    """One of ``IMAGES``, by its name."""

    def __init__(self, change):
        self.change = change

    def __call__(self, results):
        return dict(results, img=IMAGES[self.change](results['img']))


LABELS = dict(
    shifted=lambda label: (label + 1) % 10,
    constant=lambda label: 7,
    from_one=lambda label: label + 1,
    negative=lambda label: label - 1,
    few=lambda label: label % 3,
)
IMAGES = dict(
    black=lambda image: image * 0,
    normalized=lambda image: (image.astype(np.float32) - 127.5) / 127.5,
    dark=lambda image: image // 16,
)


# -- the set-ups -------------------------------------------------------------------------------------------------------


def optimizer(kind='SGD', **options):
    return dict(optimizer=dict(type=kind, **{'lr': 0.05, **options}))


def transfer(cfg, **recipe):
    cfg.default_hooks.stage_schedule.transfer.update(recipe)


def head(cfg, **recipe):
    cfg.default_hooks.stage_schedule.head.update(recipe)


def phases(cfg, *items):
    cfg.default_hooks.stage_schedule.phases = list(items)


def student(cfg, **changes):
    cfg.merge_from_dict({f'model.student.{key}': value for key, value in changes.items()})


def first_of(cfg, split, change):
    """Put a change of the image before the last transform of a split."""
    cfg[f'{split}_dataloader'].dataset.pipeline.insert(-1, dict(type='Change', change=change))


def both(cfg, change):
    for split in ('train', 'val'):
        first_of(cfg, split, change)


def relabel(cfg, split, label):
    cfg[f'{split}_dataloader'].dataset.update(type='WrongDigits', label=label)


def changed_teacher(cfg, change):
    """A copy of the teacher's checkpoint that ``change`` has changed."""
    checkpoint = torch.load(cfg.model.teacher_checkpoint, weights_only=False)
    change(checkpoint)
    cfg.model.teacher_checkpoint = str(Path(cfg.work_dir).with_suffix('.pth'))
    torch.save(checkpoint, cfg.model.teacher_checkpoint)


def reorder(checkpoint):
    """The teacher says that its classes stand in another order, and they do."""
    checkpoint['meta']['dataset_meta'] = dict(classes=tuple('1234567890'))
    for name in ('head.fc.weight', 'head.fc.bias'):
        checkpoint['state_dict'][name] = checkpoint['state_dict'][name].roll(-1, 0)


def as_files(cfg, split, folder):
    """A split of the digits as files in a folder for each class."""
    digits = Digits(split='train', indices=60, pipeline=[])
    for i in range(60):
        info = digits.get_data_info(i)
        path = folder / str(info['gt_label']) / f'{i:03}.png'
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(info['img']).save(path)
    pipeline = [dict(type='LoadImageFromFile', color_type='grayscale'), dict(type='PackInputs')]
    cfg[f'{split}_dataloader'].dataset = dict(type='mmpretrain.CustomDataset', data_root=str(folder), pipeline=pipeline)


def same_files(cfg):
    folder = Path(cfg.work_dir).parent / 'files'
    as_files(cfg, 'train', folder)
    as_files(cfg, 'val', folder)


def same_content(cfg):
    as_files(cfg, 'train', Path(cfg.work_dir).parent / 'train')
    as_files(cfg, 'val', Path(cfg.work_dir).parent / 'val')


def random_teacher(checkpoint):
    generator = torch.Generator().manual_seed(3)
    state = checkpoint['state_dict']
    for name in ('head.fc.weight', 'head.fc.bias'):
        state[name] = torch.randn(state[name].shape, generator=generator)


def constant_teacher(checkpoint):
    checkpoint['state_dict']['head.fc.bias'][3] = 1e4


def dead_teacher(checkpoint):
    checkpoint['state_dict']['backbone.layer3.1.bn2.weight'].zero_()
    checkpoint['state_dict']['backbone.layer3.1.bn2.bias'].fill_(-100)
    checkpoint['state_dict']['backbone.layer3.0.bn2.bias'].fill_(-100)
    checkpoint['state_dict']['backbone.layer3.0.bn2.weight'].zero_()


def untrained_statistics(checkpoint):
    for name, value in checkpoint['state_dict'].items():
        if name.endswith('running_mean'):
            value.zero_()
        if name.endswith('running_var'):
            value.fill_(1)


def without_validation(cfg):
    cfg.val_dataloader = cfg.val_evaluator = cfg.val_cfg = None


def swapped(cfg):
    cfg.model.student, cfg.model.teacher = classifier(width=1.0), cfg.model.teacher


def with_head(cfg, which='head'):
    cfg.model.init_from_teacher = which


def with_logits(cfg):
    cfg.model.logits = 'head.fc'
    phases(cfg, dict(train='all', mimic=[], logits=True, task_loss=False))


def start(cfg, *keys):
    """From the weights of a student of this kind."""
    path = save_weights(cfg.model.student.to_dict(), Path(cfg.work_dir).with_suffix('.start.pth'))
    cfg.merge_from_dict(dict.fromkeys(keys, path))


def as_teacher(cfg):
    cfg.model.student = cfg.model.teacher
    cfg.model.student_checkpoint = cfg.model.teacher_checkpoint


def late_and_short(cfg):
    transfer(cfg, param_scheduler=[dict(type='LinearLR', start_factor=0.01, by_epoch=False, end=500)])


def over_early(cfg):
    head(cfg, epochs=10, param_scheduler=[dict(type='LinearLR', start_factor=1.0, end_factor=0.0, end=3)])


BEFORE = {
    # the teacher
    'teacher at chance': (lambda c: changed_teacher(c, random_teacher), 'teacher.*chance'),
    'teacher constant': (lambda c: changed_teacher(c, constant_teacher), 'teacher.*same class'),
    'teacher with a dead stage': (lambda c: changed_teacher(c, dead_teacher), "layer3.*teacher's feature is constant"),
    'labels of validation shifted by one': (lambda c: relabel(c, 'val', 'shifted'), 'teacher.*chance'),
    "classes in another order, the teacher's head": (
        lambda c: (changed_teacher(c, reorder), with_head(c, 'head'), student(c, **{'backbone.width': 0.5})),
        "label 0 means '0', but '1'",
    ),
    'classes in another order, all weights': (
        lambda c: (changed_teacher(c, reorder), with_head(c, 'all')),
        "label 0 means '0', but '1'",
    ),
    'classes in another order, logits': (
        lambda c: (changed_teacher(c, reorder), with_logits(c)),
        "label 0 means '0', but '1'",
    ),
    'classes in another order, features': (lambda c: changed_teacher(c, reorder), 'not evaluated.*label 0 means'),
    'a teacher that never saw an image': (
        lambda c: (changed_teacher(c, untrained_statistics), without_validation(c)),
        'teacher never saw an image',
    ),
    'teacher and student swapped': (swapped, 'teacher has fewer parameters'),
    'the student is the teacher': (as_teacher, 'student.*is the teacher'),
    # the preprocessor
    'mean and std of 0 to 1 for images of 0 to 255': (
        lambda c: [c.model[m].data_preprocessor.update(mean=[0.485], std=[0.229]) for m in ('teacher', 'student')],
        'normalized.*std',
    ),
    'images normalized twice': (
        lambda c: both(c, 'normalized'),
        'normalized.*twice',
    ),
    'only validation is normalized': (
        lambda c: first_of(c, 'val', 'normalized'),
        'val_dataloader.*twice',
    ),
    'other images in validation': (
        lambda c: first_of(c, 'val', 'dark'),
        'val_dataloader.*other values',
    ),
    # what learns
    'learning rate 0 in the transfer': (lambda c: transfer(c, optim_wrapper=optimizer(lr=0)), 'lr must be .*above 0'),
    'learning rate 0 of the run': (lambda c: c.optim_wrapper.optimizer.update(lr=0.0), 'lr must be .*above 0'),
    'a scheduler makes it 0': (
        lambda c: transfer(c, param_scheduler=[dict(type='MultiStepLR', milestones=[1], gamma=0.0, by_epoch=False)]),
        'learning rate is 0 in 67%',
    ),
    'a scheduler that fails after the last step': (
        lambda c: transfer(c, param_scheduler=[dict(type='ConstantLR', factor=0.0, by_epoch=False)]),
        'param_scheduler fails',
    ),
    'a scheduler that ends early at 0': (over_early, 'learning rate is 0 in 80%'),
    'warm-up longer than the phase': (late_and_short, 'ends at iteration 500'),
    'milestones that no epoch reaches': (
        lambda c: head(c, param_scheduler=[dict(type='MultiStepLR', milestones=[30, 60])]),
        'milestones',
    ),
    'momentum 1': (lambda c: transfer(c, optim_wrapper=optimizer(momentum=1.0)), 'momentum must be .*below 1'),
    'weight decay beyond learning': (
        lambda c: transfer(c, optim_wrapper=optimizer(weight_decay=1.0)),
        'weight_decay.*weights to 0',
    ),
    'accumulation longer than the phase': (
        lambda c: transfer(c, optim_wrapper=dict(optimizer(), accumulative_counts=50)),
        'accumulative_counts=50',
    ),
    'a mimic loss of weight 0': (
        lambda c: c.model.update(mimic_loss=dict(type='mmsskd.FeatureMimicLoss', loss_weight=0)),
        'loss_weight must be .*above 0',
    ),
    'a logits loss of negative weight': (
        lambda c: (
            with_logits(c),
            c.model.update(logits=dict(module='head.fc', loss=dict(type='mmsskd.LogitsKDLoss', loss_weight=-1))),
        ),
        'loss_weight must be .*above 0',
    ),
    'a stage that nothing trains': (
        lambda c: phases(c, dict(train='layer1'), dict(train=['layer3', 'head'])),
        'no phase trains.*layer2',
    ),
    'a head that nothing trains': (lambda c: phases(c, dict(train='stages')), 'no phase trains the head'),
    'load_from over the start from the teacher': (
        lambda c: (with_head(c, 'all'), start(c, 'load_from')),
        'load_from.*init_from_teacher',
    ),
    'load_from over student_checkpoint': (
        lambda c: start(c, 'load_from', 'model.student_checkpoint'),
        'load_from.*student_checkpoint',
    ),
    'norm_eval from scratch': (lambda c: student(c, **{'backbone.norm_eval': True}), 'norm_eval=False'),
    'frozen_stages from scratch': (lambda c: student(c, **{'backbone.frozen_stages': 1}), 'nothing to train'),
    'keys of paramwise_cfg that match nothing': (
        lambda c: transfer(
            c, optim_wrapper=dict(optimizer(), paramwise_cfg=dict(custom_keys={'student.backbone': dict(lr_mult=0.1)}))
        ),
        'student.backbone.*no parameter',
    ),
    'batches of one image with batch normalization': (
        lambda c: c.train_dataloader.update(batch_size=1),
        'batch_size=1',
    ),
    'a loader that drops all': (
        lambda c: c.train_dataloader.update(drop_last=True, batch_size=2000),
        'gives no batch',
    ),
    'no shuffling': (lambda c: c.train_dataloader.sampler.update(shuffle=False), 'shuffle'),
    # data
    'validation on training images': (
        lambda c: c.val_dataloader.update(dataset=loader()['dataset']),
        'val_dataloader.*training images',
    ),
    'validation on training files': (same_files, 'val_dataloader.*training images'),
    'validation on copies of training files': (same_content, 'val_dataloader.*training images'),
    'constant labels': (lambda c: relabel(c, 'train', 'constant'), 'train_dataloader.*label 7'),
    'constant labels in validation': (lambda c: relabel(c, 'val', 'constant'), 'val_dataloader.*label 7'),
    'labels from 1 on': (lambda c: relabel(c, 'train', 'from_one'), 'train_dataloader.*label 10'),
    'negative labels': (lambda c: relabel(c, 'train', 'negative'), 'train_dataloader.*label -1'),
    'validation without half of the classes': (
        lambda c: relabel(c, 'val', 'few'),
        'val_dataloader.*3 of the 10 classes',
    ),
    'a head for more classes': (lambda c: student(c, **{'head.num_classes': 100}), 'is made for 100'),
    'black images': (lambda c: both(c, 'black'), 'train_dataloader.*one value'),
    'black images in validation': (lambda c: first_of(c, 'val', 'black'), 'val_dataloader.*one value'),
    'random augmentation in validation': (
        lambda c: c.val_dataloader.dataset.pipeline.insert(0, dict(type='RandomCrop', crop_size=8, padding=3)),
        'val_dataloader.*differ each time',
    ),
}  # fmt: skip


def long(cfg, *items):
    """Phases long enough to judge: 24 iterations each."""
    cfg.train_dataloader.batch_size = 4
    phases(cfg, *items)


AFTER = {
    'a learning rate of nearly 0': (
        lambda c: long(c, dict(train='layer1', optim_wrapper=optimizer(lr=1e-12))),
        'phase 1/1 layer1.*layer1 have not moved',
    ),
    'gradients clipped to nothing': (
        lambda c: long(c, dict(train='layer1', optim_wrapper=dict(optimizer(), clip_grad=dict(max_norm=1e-12)))),
        'layer1 have not moved.*clip_grad',
    ),
    'lr_mult 0': (
        lambda c: long(
            c,
            dict(
                train=['layer1', 'layer2'],
                optim_wrapper=dict(optimizer(), paramwise_cfg=dict(custom_keys={'layer2': dict(lr_mult=0)})),
            ),
        ),
        'layer2 have not moved',
    ),
    'a learning rate 100 times too high': (
        lambda c: long(c, dict(train='layer1', optim_wrapper=optimizer('Adam', lr=3.0))),
        'relative error of layer1.*above 1',
    ),
    'a learning rate 1000 times too low': (
        lambda c: long(c, dict(train='layer1', optim_wrapper=optimizer('Adam', lr=1e-7))),
        'relative error of layer1.*above 1',
    ),
    'the same with a cosine': (
        lambda c: (
            c.model.update(mimic_loss=dict(type='mmsskd.CosineMimicLoss')),
            long(c, dict(train='layer1', optim_wrapper=optimizer('Adam', lr=1e-7))),
        ),
        'loss_mimic_layer1 has not fallen',
    ),
    'a head without a loss': (
        lambda c: (
            student(c, **{'head.loss': dict(type='CrossEntropyLoss', loss_weight=0.0)}),
            long(c, dict(train='head', optim_wrapper=optimizer(momentum=0.9))),
        ),
        'head have not moved',
    ),
    'a head with too high a learning rate': (
        lambda c: long(c, dict(train='head', optim_wrapper=optimizer(lr=1e3))),
        'task loss.*not fallen',
    ),
    'training labels that mean other classes': (
        lambda c: (
            long(c, dict(train='all', task_loss=True, mimic=[], epochs=3, optim_wrapper=optimizer('Adam', lr=0.01))),
            c.train_dataloader.update(batch_size=16),
            c.train_dataloader.dataset.update(indices=400),
            relabel(c, 'train', 'shifted'),
        ),
        'student.*chance',
    ),
}


# -- the runs ----------------------------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def configs_as_they_come(monkeypatch):
    """Each config is another one, and laying one out for the log takes half of such a short run."""
    monkeypatch.setattr('yapf.yapflib.yapf_api.FormatCode', lambda text, **options: (text, False))


@pytest.fixture(scope='module')
def good_teacher(tmp_path_factory):
    """A teacher that has learned the digits."""
    folder = tmp_path_factory.mktemp('good_teacher')
    cfg = run_cfg(folder, 'none')
    del cfg.default_hooks['stage_schedule']
    cfg.merge_from_dict(dict(default_hooks=dict(checkpoint=dict(interval=4))))
    cfg.optim_wrapper = optimizer('Adam', lr=0.01)
    cfg.model = classifier()
    cfg.train_dataloader = loader(count=1200, batch_size=64)
    cfg.train_cfg = dict(by_epoch=True, max_epochs=4, val_interval=100)
    Runner.from_cfg(cfg).train()
    return folder / 'epoch_4.pth'


def config(folder, teacher, before=True):
    cfg = run_cfg(folder / 'run', teacher)
    cfg.merge_from_dict(
        dict(default_hooks=dict(checkpoint=None, stage_schedule=dict(save_phase_ends=False))),
    )
    cfg.default_hooks.stage_schedule.transfer.optim_wrapper = optimizer('Adam', lr=0.01)
    cfg.val_dataloader = loader('test', 200, 100)
    if before:
        cfg.custom_hooks = [dict(type='StopHook')]
    return cfg


def outcome(cfg) -> tuple[str, str]:
    """What a run says, and whether by refusing or by warning."""
    try:
        Runner.from_cfg(cfg).train()
    except Stopped:
        pass
    except Exception as error:
        kind = 'refused' if isinstance(error, ConfigError) else f'raised {type(error).__name__}'
        return kind, f'{error} {error.__cause__}'
    logs = '\n'.join(path.read_text() for path in Path(cfg.work_dir).glob('*/*.log'))
    return 'warned', '\n'.join(line for line in logs.splitlines() if 'WARNING' in line)


def check(tmp_path, teacher, setups, name, before):
    change, words = setups[name]
    cfg = config(tmp_path, teacher, before)
    change(cfg)
    kind, said = outcome(cfg)
    assert kind in ('refused', 'warned'), f'{name}: {kind}, {said}'
    assert re.search(words, said), f'{name}: silent, or in other words: {kind} {said}'


@pytest.mark.parametrize('name', BEFORE)
def test_noticed_before_training(tmp_path, good_teacher, name):
    check(tmp_path, good_teacher, BEFORE, name, True)


RIGHT = {
    'stage by stage': lambda c: None,
    'stages kept, iterations': lambda c: transfer(c, param_scheduler=None),
    "the teacher's head": lambda c: (student(c, **{'backbone.width': 0.5}), with_head(c)),
    'logits': with_logits,
    'files': lambda c: as_files(c, 'train', Path(c.work_dir).parent / 'train'),
}


@pytest.mark.parametrize('name', RIGHT)
def test_nothing_is_said_before_a_right_run(tmp_path, good_teacher, name):
    cfg = config(tmp_path, good_teacher)
    RIGHT[name](cfg)
    kind, said = outcome(cfg)
    assert kind == 'warned'
    assert not [line for line in said.splitlines() if 'requires_grad=False' not in line]


@pytest.mark.slow
def test_nothing_is_said_of_a_right_run(tmp_path, good_teacher):
    cfg = config(tmp_path, good_teacher, before=False)
    cfg.train_dataloader = loader(count=600, batch_size=16)
    transfer(cfg, param_scheduler=None)
    head(cfg, optim_wrapper=optimizer('Adam', lr=0.01))
    assert outcome(cfg) == ('warned', '')


QUICK = ('a learning rate of nearly 0', 'a learning rate 100 times too high', 'the same with a cosine')


@pytest.mark.parametrize(
    'name', [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in AFTER]
)
def test_noticed_at_the_end_of_a_phase(tmp_path, good_teacher, name):
    check(tmp_path, good_teacher, AFTER, name, False)
    (log,) = (tmp_path / 'run').glob('*/*.log')
    assert re.search(r'WARNING - \d warnings?: \(1\) ', log.read_text())


# -- numbers that are not finite end a run -----------------------------------------------------------------------------


@HOOKS.register_module()
class InfiniteGradient(Hook):
    """Does to a weight what a step does whose loss is finite and whose gradient is not."""

    priority = 'VERY_HIGH'

    def __init__(self, iteration, buffer=False):
        self.iteration, self.buffer = iteration, buffer

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if runner.iter + 1 == self.iteration:
            last = runner.model.student.backbone.layer3[-1]
            (last.bn2.running_var if self.buffer else last.conv2.weight).data.view(-1)[0] = float('nan')


def diverging(work_dir, teacher_path, iteration, iters=2, **changes):
    hooks = [dict(type='InfiniteGradient', iteration=iteration, buffer=iteration % 2 == 1)]
    cfg = run_cfg(work_dir, teacher_path, iters=iters, custom_hooks=hooks)
    cfg.default_hooks.checkpoint.update(changes)
    return cfg


@pytest.mark.parametrize(('iteration', 'last'), [(3, 'iter_2.pth'), (6, 'iter_5.pth'), (8, 'iter_7.pth')])
def test_before_a_checkpoint_at_a_phase_end_and_at_the_end(tmp_path, teacher_path, iteration, last):
    cfg = diverging(tmp_path, teacher_path, iteration, max_keep_ckpts=1)
    words = rf'phase {(iteration + 1) // 2}/4 .* 1 weights or buffers are not any more.*last good.*{last}'
    with pytest.raises(NonFiniteLossError, match=words):
        train(cfg)
    assert (tmp_path / last).is_file() and not (tmp_path / 'student.pth').exists()
    assert not any(not_finite(weights(file)) for file in tmp_path.glob('*.pth'))


def test_within_a_phase_without_checkpoints(tmp_path, teacher_path):
    cfg = diverging(tmp_path, teacher_path, 3, interval=-1, save_last=False)
    with pytest.raises(NonFiniteLossError, match=r'phase 2/4 .*last good.*phase1_layer1.pth'):
        train(cfg)
    assert not (tmp_path / 'student.pth').exists()


@pytest.mark.slow
def test_epochs(tmp_path, teacher_path):
    cfg = diverging(tmp_path, teacher_path, 12, iters=None, interval=-1, save_last=False)
    with pytest.raises(NonFiniteLossError, match=r'phase 4/4 head.*last good.*phase3_layer3.pth'):
        train(cfg)
    assert not (tmp_path / 'student.pth').exists()


def test_after_a_loss_that_is_not_finite_no_weights_are_saved_that_were_not_before(tmp_path, teacher_path):
    cfg = diverging(tmp_path, teacher_path, 6, iters=4, interval=4)
    cfg.default_hooks.stage_schedule.phases = [dict(train='layer3'), dict(train='head')]
    with pytest.raises(
        NonFiniteLossError,
        match=r'iteration 7 .*before this step.*good checkpoint is .*(iter_4|phase1_layer3).pth',
    ):
        train(cfg)
    assert not list(tmp_path.glob('non_finite*'))


@pytest.mark.slow
def test_export_of_such_a_checkpoint(tmp_path, teacher_path):
    train(run_cfg(tmp_path, teacher_path, iters=1))
    checkpoint = torch.load(tmp_path / 'iter_4.pth', weights_only=False)
    checkpoint['state_dict']['head.fc.bias'][3] = float('inf')
    torch.save(checkpoint, tmp_path / 'bad.pth')
    with pytest.raises(ConfigError, match=r'the student is not exported: 1 of its .*\(head.fc.bias\)'):
        export_checkpoint(str(tmp_path / 'bad.pth'), str(tmp_path / 'out'))
    assert not (tmp_path / 'out').exists()
