"""Two real processes (gloo), once through tools/dist_train.sh: equal to the bit, and equal to one process with the same batches."""

import copy
import itertools
import pickle
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import warm
from distill_helpers import idle_student
from helpers import (
    GROUP_NORM,
    ROOT,
    classifier,
    environment,
    loader,
    run_cfg,
    same,
    save_weights,
    train,
    warm_ranks,
    weights,
)
from mmcv.transforms import BaseTransform
from mmdet.datasets import MultiImageMixDataset
from mmengine.config import Config
from mmengine.dataset import BaseDataset, ClassBalancedDataset, ConcatDataset, RepeatDataset
from mmengine.hooks import EMAHook, Hook
from mmengine.registry import HOOKS, TRANSFORMS
from torch.utils.data import DataLoader, Subset

from mmsskd.distill.schedule.runner_state import begin_pass, place_samples
from mmsskd.errors import ConfigError

RANK = f"""#!{sys.executable} -S
import sys
sys.path.insert(0, {str(ROOT / 'tests')!r})
import warm
sys.exit(warm.forward(sys.argv[sys.argv.index('-u') + 1 :]))
"""


def two_processes(cfg: Config, path, port: int, script=False):
    cfg.dump(path)
    if not script:
        return warm_ranks(ROOT / 'tools/train.py', path, port=port, PYTHONPATH=ROOT / 'tests')
    rank = Path(path).with_name('rank')  # what torchrun starts in place of Python
    rank.write_text(RANK)
    rank.chmod(0o700)
    env = environment(PYTHONPATH=ROOT / 'tests', PORT=str(port), PYTHON_EXEC=str(rank), **{warm.SERVER: warm.address()})
    return subprocess.run(
        ['bash', ROOT / 'tools/dist_train.sh', path, '2'], env=env, capture_output=True, text=True, timeout=300
    )


def distributed_cfg(folder, teacher_checkpoint, iters=None, batch_size=16, **models) -> Config:
    """No augmentation, so that two processes see what one sees; momentum SGD, because Adam magnifies rounding."""
    folder.mkdir()
    cfg = run_cfg(folder, teacher_checkpoint, iters=iters, **models)
    cfg.train_dataloader = loader(batch_size=batch_size, infinite=iters is not None)
    cfg.train_dataloader.dataset.pipeline = [dict(type='PackInputs')]
    sgd = dict(optimizer=dict(type='SGD', lr=0.05, momentum=0.9))
    cfg.default_hooks.stage_schedule.transfer.update(optim_wrapper=sgd, param_scheduler=[])
    cfg.custom_imports = dict(imports=['rank_dump'], allow_failed_imports=False)
    cfg.custom_hooks = [dict(type='RankDump', folder=str(folder), interval=iters or 1)]
    cfg.default_hooks.checkpoint.interval = 100
    cfg.pop('experiment_name')
    return cfg


def saved_within_a_window(cfg: Config) -> Config:
    """In phases of three iterations the first ends within a window of two; that of the second phase is saved, the fourth."""
    cfg.default_hooks.stage_schedule.transfer.optim_wrapper.accumulative_counts = 2
    cfg.default_hooks.checkpoint.interval = 4
    cfg.custom_hooks[0].interval = 1
    return cfg


def steps(folder, rank):
    paths = sorted(folder.glob(f'step*_rank{rank}.pth'), key=lambda path: int(path.name.split('_')[0][4:]))
    return [torch.load(path, map_location='cpu') for path in paths]


@pytest.mark.slow
@pytest.mark.parametrize('iters', [None, 3])
def test_two_processes_equal_one_without_bn(tmp_path, iters, monkeypatch):
    """Widths differ, so adapters are reduced too. A checkpoint within a window holds the gradients of all ranks, or none."""
    models = dict(teacher=classifier(**GROUP_NORM), student=classifier(depth=8, width=1, **GROUP_NORM))
    teacher = save_weights(models['teacher'], tmp_path / 'teacher.pth')
    norm = {'model.adapter_norm': False}
    change = saved_within_a_window if iters else copy.copy
    two = change(distributed_cfg(tmp_path / 'two', teacher, iters, **models, **norm))
    result = two_processes(two, tmp_path / 'two.py', 29610 + bool(iters), script=iters is None)
    assert result.returncode == 0, result.stdout + result.stderr
    monkeypatch.syspath_prepend(str(ROOT / 'tests'))
    import rank_dump  # noqa: F401

    train(change(distributed_cfg(tmp_path / 'one', teacher, iters, batch_size=32, **models, **norm)))
    first, second, single = steps(tmp_path / 'two', 0), steps(tmp_path / 'two', 1), steps(tmp_path / 'one', 0)
    assert len(first) == len(second) == len(single) == (12 if iters else 4)
    if iters:
        assert single[0]['gradients'] and not first[0]['gradients'] and 'gradients of an unfinished' in result.stdout
        (a, b, c), close = (each[3]['gradients'] for each in (first, second, single)), torch.testing.assert_close
        assert a and same(a, b) and a.keys() == c.keys()
        close(a, c, rtol=0, atol=1e-5)
    for a, b, c in zip(first, second, single):
        assert a['wrapper'] == 'MMDistributedDataParallel' and a['find_unused'] is False
        assert a['trains'] == c['trains']  # only what the phase trains is reduced
        assert same(a['state_dict'], b['state_dict'])
        for name, value in c['state_dict'].items():
            torch.testing.assert_close(
                a['state_dict'][name], value, rtol=0, atol=1e-5, msg=lambda m, name=name: f'{name}: {m}'
            )
    assert len({step['trains'] for step in first}) == 4


@pytest.mark.slow
def test_ranks_agree_on_bn_statistics_and_frozen_ones_do_not_move(tmp_path, teacher_path):
    """A projector's too, which trains with the last stage."""
    projector = {'model.projector': dict(type='mmsskd.BottleneckProjector')}
    result = two_processes(distributed_cfg(tmp_path / 'run', teacher_path, **projector), tmp_path / 'run.py', 29612)
    assert result.returncode == 0, result.stdout + result.stderr
    first, second = steps(tmp_path / 'run', 0), steps(tmp_path / 'run', 1)
    for a, b in zip(first, second):
        assert same(a['state_dict'], b['state_dict'])
    frozen = [name for name in first[0]['state_dict'] if 'layer1' in name or name.startswith('backbone.bn1')]
    assert any('running_var' in name for name in frozen)
    assert same(first[0]['state_dict'], first[-1]['state_dict'], frozen)
    own = [name for name in first[0]['state_dict'] if 'neck.projector' in name]
    moved = [
        [not torch.equal(a['state_dict'][n], b['state_dict'][n]) for n in own] for a, b in itertools.pairwise(first)
    ]
    assert own and not any(moved[0]) and all(moved[1]) and not any(moved[2])
    assert (tmp_path / 'run' / 'student.pth').is_file() and (tmp_path / 'run' / 'phase3_layer3.pth').is_file()


@pytest.mark.slow
def test_ranks_do_not_wait_for_layers_that_nothing_depends_on(tmp_path, teacher_path):
    """No phase hands them to the reducer, whose gradients would never come; they stay as they are, all else trains.

    Statistics are those of all ranks in each checkpoint, of which every iteration saves one.
    """
    phases = [dict(train=part, iters=2) for part in ('layer1', 'layer2', 'head', 'all')]
    cfg = distributed_cfg(
        tmp_path / 'run',
        teacher_path,
        iters=2,
        student=idle_student(),
        hook=dict(phases=phases),
        **{'model.stages': ['layer1', 'layer2']},
    )
    cfg.default_hooks.checkpoint.interval = cfg.custom_hooks[0].interval = 1
    result = two_processes(cfg, tmp_path / 'run.py', 29613)
    assert result.returncode == 0, result.stdout + result.stderr
    first, second = steps(tmp_path / 'run', 0), steps(tmp_path / 'run', 1)
    assert len(first) == 8 and all(a['find_unused'] is False for a in first)
    assert all(same(a['state_dict'], b['state_dict']) for a, b in zip(first, second))
    idle = [name for name in first[0]['state_dict'] if name.startswith('backbone.layer3.')]
    assert idle and same(first[0]['state_dict'], first[-1]['state_dict'], idle)
    own = [name for name in first[0]['state_dict'] if name.endswith('.weight') and name not in idle]
    assert not any(torch.equal(first[0]['state_dict'][name], first[-1]['state_dict'][name]) for name in own)


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (
            dict(model_wrapper_cfg=dict(type='MMFullyShardedDataParallel')),
            'which MMFullyShardedDataParallel cannot follow',
        ),
        (dict(compile=True), '`compile` is not supported'),
        (
            dict(custom_hooks=[dict(type='EMAHook')]),
            r'EMAHook would average weights across stages: set begin_epoch=4 in it',
        ),
        (dict(custom_hooks=[dict(type='EMAHook', begin_epoch=3)]), 'set begin_epoch=4 in it'),
        (
            dict(
                custom_hooks=[dict(type='EarlyStoppingHook', monitor='accuracy/top1')],
                hook=dict(phases=[dict(train='layer1'), dict(train='head'), dict(train='all', epochs=2)]),
            ),
            r'custom_hooks: EarlyStoppingHook ends .* phase 2 \(head\) .* set train_cfg.val_begin=3,',
        ),
    ],
)
def test_what_cannot_follow_a_schedule_is_refused(tmp_path, teacher_path, change, message):
    with pytest.raises(ConfigError, match=message):
        train(run_cfg(tmp_path, teacher_path, **change))


@pytest.mark.parametrize('begin', [1, 3])
def test_the_last_phase_may_stop_early(tmp_path, teacher_path, begin):
    """Where it alone is validated, by itself or by val_begin."""
    phases = [dict(train='layer1'), dict(train='head' if begin == 3 else 'layer2'), dict(train='all', epochs=2)]
    stop = dict(type='EarlyStoppingHook', monitor='accuracy/top1', stopping_threshold=-1.0)
    train_cfg = {'train_cfg.val_begin': begin}
    runner = train(run_cfg(tmp_path, teacher_path, hook=dict(phases=phases), custom_hooks=[stop], **train_cfg))
    assert runner.epoch == 3 and (tmp_path / 'student.pth').is_file()


def test_flexible_runner_is_refused(tmp_path, teacher_path):
    from mmengine.runner import FlexibleRunner

    cfg = run_cfg(tmp_path, teacher_path)
    cfg.update(strategy=dict(type='SingleDeviceStrategy'), env_cfg=dict(), launcher='none')
    with pytest.raises(ConfigError, match='which SingleDeviceStrategy cannot follow.*Use the ordinary Runner with DDP'):
        FlexibleRunner.from_cfg(cfg).train()


def test_ema_in_the_head_phase_is_exported(tmp_path, teacher_path):
    """From epoch 4, the head: the student carries the averaged head and the frozen backbone to the bit."""
    cfg = run_cfg(tmp_path, teacher_path, custom_hooks=[dict(type='EMAHook', begin_epoch=4, momentum=0.5)])
    runner = train(cfg)
    ema = next(hook for hook in runner.hooks if isinstance(hook, EMAHook))
    student = torch.load(tmp_path / 'student.pth')['state_dict']
    averaged = ema.ema_model.module.state_dict()
    assert ema.ema_model.module.teacher is runner.model.teacher
    assert same(student, averaged, student)
    assert not torch.equal(student['head.fc.weight'], runner.model.student.head.fc.weight)
    assert torch.equal(student['backbone.conv1.weight'], runner.model.student.backbone.conv1.weight)


# -- what a sample draws in a worker -----------------------------------------------------------------------------------


@TRANSFORMS.register_module()
class NoteDraws(BaseTransform):
    """Note what Python, numpy and torch give this sample."""

    def transform(self, results):
        results['draws'] = (random.random(), np.random.random(), torch.rand(()).item())  # noqa: NPY002
        return results


@HOOKS.register_module()
class KeepDraws(Hook):
    """Keep them by iteration, for the test."""

    by_iteration: dict = {}

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        self.by_iteration[runner.iter] = [tuple(sample.draws) for sample in data_batch['data_samples']]


def drawing(loader_cfg, persistent, workers=2):
    """A loader with workers that notes its draws."""
    pipeline = loader_cfg['dataset']['pipeline']
    pipeline[-1:] = [dict(type='NoteDraws'), dict(type='PackInputs', meta_keys=('draws',))]
    return dict(loader_cfg, num_workers=workers, persistent_workers=persistent and workers > 0)


def cfg_of(work_dir, teacher_path, iters, persistent, infinite=True):
    """Two phases, the second with a loader of its own; a checkpoint at each step, and nothing is validated."""
    none = dict.fromkeys(('val_dataloader', 'val_evaluator', 'val_cfg'))
    cfg = run_cfg(work_dir, teacher_path, iters=iters, custom_hooks=[dict(type='KeepDraws')], **none)
    infinite = infinite and iters is not None
    cfg.train_dataloader = drawing(loader(infinite=infinite), persistent)
    other = drawing(loader(count=64, infinite=infinite), persistent)
    phases = [dict(train='layer1'), dict(train='all', train_dataloader=other)]
    length = dict(epochs=2) if iters is None else dict(iters=iters)
    cfg.default_hooks.stage_schedule.update(phases=phases, transfer=length, head=length, evaluate_teacher=False)
    return cfg


def draws_of(cfg):
    KeepDraws.by_iteration.clear()
    train(cfg)
    return dict(KeepDraws.by_iteration)


@pytest.mark.slow
@pytest.mark.parametrize(
    ('iters', 'persistent', 'infinite', 'cut'),
    [
        (None, True, True, 1),
        (4, True, True, 2),
        (4, False, False, 5),
    ],
    ids=['epochs, persistent', 'iterations, persistent', 'iterations over epochs'],
)
def test_no_two_samples_draw_the_same_and_a_resumed_run_draws_it_again(
    tmp_path, teacher_path, iters, persistent, infinite, cut
):
    whole = draws_of(cfg_of(tmp_path / 'whole', teacher_path, iters, persistent, infinite))
    for kind in range(3):
        values = [sample[kind] for batch in whole.values() for sample in batch]
        assert len(set(values)) == len(values)
    name = 'epoch_{}.pth' if iters is None else 'iter_{}.pth'
    cfg = cfg_of(tmp_path / 'cut', teacher_path, iters, persistent, infinite)
    cfg.resume, cfg.load_from = True, str(tmp_path / 'whole' / name.format(cut))
    again = draws_of(cfg)
    assert 0 < len(again) < len(whole) and again == {step: whole[step] for step in again}
    last = name.format(4 if iters is None else 8)
    assert same(weights(tmp_path / 'whole' / last), weights(tmp_path / 'cut' / last))


class Draws(BaseDataset):
    """Eight samples, of which each draws."""

    def load_data_list(self):
        return [dict(gt_label=i % 2) for i in range(8)]

    def get_cat_ids(self, idx):
        return [idx % 2]

    def prepare_data(self, idx):
        return idx, random.random(), np.random.random(), torch.rand(()).item()  # noqa: NPY002


class InBatches(Draws):
    def __getitems__(self, indices):
        return [self.prepare_data(index) for index in indices]


@TRANSFORMS.register_module()
class Mix(BaseTransform):
    """Draws further samples, as a mosaic does."""

    def get_indexes(self, dataset):
        return [random.randrange(len(dataset)) for _ in range(3)]

    def transform(self, results):
        return results['mix_results']


class Plain(Draws):
    def prepare_data(self, idx):
        return dict(number=idx, drawn=random.random())


def drawn(dataset, epoch=0, number=0, workers=2):
    """What a pass over a data set draws."""
    loader = DataLoader(dataset, batch_size=3, num_workers=workers, collate_fn=list)
    others = [DataLoader([0], num_workers=1) for _ in range(number)]
    place_samples([*others, loader], endless=False)
    begin_pass(loader, 0, epoch)
    return [sample for batch in loader for sample in batch]


@pytest.mark.parametrize(
    'wrap',
    [
        lambda: Draws(),
        lambda: Subset(Draws(), range(2, 7)),
        lambda: InBatches(),
        lambda: ConcatDataset([Draws(), Draws()]),
        lambda: RepeatDataset(Draws(), 2),
        lambda: ClassBalancedDataset(Draws(), 0.1),
        lambda: MultiImageMixDataset(Plain(), [dict(type='Mix')]),
    ],
    ids=['plain', 'subset', 'in batches', 'concatenated', 'repeated', 'balanced', 'mixed'],
)
def test_of_every_data_set(wrap):
    """One worker or two: the same. Further samples of a mixed one are drawn too."""
    first, again, next_epoch = drawn(wrap()), drawn(wrap(), workers=1), drawn(wrap(), epoch=1)
    assert first == again and len(first) >= 5
    pairs = list(zip(first, next_epoch))
    assert not any(a == b for a, b in pairs)
    values = {str(sample) for sample in [*first, *next_epoch]}
    assert len(values) == 2 * len(first)


def test_of_other_ranks_and_other_loaders(monkeypatch):
    first, other = drawn(Draws()), drawn(Draws(), number=1)
    monkeypatch.setattr('mmsskd.distill.schedule.runner_state.get_rank', lambda: 1)
    second = drawn(Draws())
    assert len({sample[1] for sample in [*first, *other, *second]}) == 3 * len(first)


def test_what_a_spawned_worker_is_given_can_be_pickled():
    loader = DataLoader(Draws(), num_workers=1, worker_init_fn=print)
    place_samples([loader], endless=True)
    begin_pass(loader, 0, skipped=9)
    assert pickle.loads(pickle.dumps(loader.worker_init_fn)).keywords == dict(init=print)
    (place,) = pickle.loads(pickle.dumps(next(iter(loader.batch_sampler))))
    assert place.index == 1 and place.words == (0, 0, 1, 1, 0, 0)  # the tenth of eight: second pass, second batch
