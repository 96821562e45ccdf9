"""With workers, what a sample draws follows from its place in the run: no two draw the same, and a resumed run draws it again."""

import pickle
import random

import numpy as np
import pytest
import torch
from helpers import loader, run_cfg, same, train, weights
from mmcv.transforms import BaseTransform
from mmdet.datasets import MultiImageMixDataset
from mmengine.dataset import BaseDataset, ClassBalancedDataset, ConcatDataset, RepeatDataset
from mmengine.hooks import Hook
from mmengine.registry import HOOKS, TRANSFORMS
from torch.utils.data import DataLoader, Subset

from mmsskd.distill.schedule.places import begin_pass, place_samples


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


@pytest.mark.parametrize(
    ('iters', 'persistent', 'infinite', 'cut'),
    [
        (None, True, True, 1),
        pytest.param(None, False, True, 3, marks=pytest.mark.slow),
        pytest.param(4, True, True, 2, marks=pytest.mark.slow),
        pytest.param(4, False, False, 5, marks=pytest.mark.slow),
    ],
    ids=['epochs, persistent', 'epochs', 'iterations, persistent', 'iterations over epochs'],
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
    monkeypatch.setattr('mmsskd.distill.schedule.places.get_rank', lambda: 1)
    second = drawn(Draws())
    assert len({sample[1] for sample in [*first, *other, *second]}) == 3 * len(first)


def test_what_a_spawned_worker_is_given_can_be_pickled():
    loader = DataLoader(Draws(), num_workers=1, worker_init_fn=print)
    place_samples([loader], endless=True)
    begin_pass(loader, 0, skipped=9)
    assert pickle.loads(pickle.dumps(loader.worker_init_fn)).keywords == dict(init=print)
    (place,) = pickle.loads(pickle.dumps(next(iter(loader.batch_sampler))))
    assert place.index == 1 and place.words == (0, 0, 1, 1, 0, 0)  # the tenth of eight: second pass, second batch
