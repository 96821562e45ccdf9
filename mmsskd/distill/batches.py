"""Batches of an iteration-based run, and random states that do not depend on what ran before."""

import copy
import random
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import torch
from mmengine.dist import get_rank
from mmengine.runner import Runner
from mmengine.runner.loops import _InfiniteDataloaderIterator
from torch.utils.data import DataLoader, Subset

from .phase import Phase


def seed_everything(seed: int, step: int) -> None:
    """Set the random states of Python, numpy and torch from the run's seed, the step and the rank.

    Called at each epoch (epoch-based) or iteration (iteration-based), so that augmentation and dropout after a resume are those
    of the uninterrupted run, on every rank, without states in the checkpoint.
    """
    words = np.random.SeedSequence([seed, step, get_rank()]).generate_state(3)
    random.seed(int(words[0]))
    np.random.seed(int(words[1]))  # noqa: NPY002  the legacy state is what transforms draw from
    torch.manual_seed(int(words[2]))


def reseed_samplers(loaders: Iterable[DataLoader], seed: int) -> None:
    """Give the samplers the seed of the checkpoint: on resume MMEngine restores it too late for them."""
    for loader in loaders:
        for sampler in (loader.sampler, getattr(loader.batch_sampler, 'sampler', None)):
            if hasattr(sampler, 'seed'):
                sampler.seed = seed


def build_loaders(runner: Runner, phases: Sequence[Phase]) -> list[DataLoader]:
    """The loader of each phase: the run's own, or one for each different config, so that equal ones share workers and data."""
    diff_rank_seed = runner.cfg.get('randomness', {}).get('diff_rank_seed', False)
    loaders, built = [], {}
    for phase in phases:
        cfg = phase.train_dataloader
        if cfg and repr(cfg) not in built:
            built[repr(cfg)] = runner.build_dataloader(cfg, seed=runner.seed, diff_rank_seed=diff_rank_seed)
        loaders.append(built[repr(cfg)] if cfg else runner.train_loop.dataloader)
    return loaders


def can_be_indexed(loader: DataLoader) -> bool:
    """Whether images of a loader's data set can be had by their number."""
    return hasattr(loader.dataset, '__getitem__') and hasattr(loader.dataset, '__len__')


def batches_beside(loader: DataLoader, indices: Sequence[int], batch_size: int) -> Iterator[dict]:
    """Batches of chosen images, outside the order of ``loader``, which goes on afterwards as if nothing had been drawn.

    In a worker where the run has workers: what a data set opens on first use must not be shared with them. Else with a copy of
    the pipeline, whose transforms may keep images.
    """
    dataset, pipeline = loader.dataset, getattr(loader.dataset, 'pipeline', None)
    if not loader.num_workers and pipeline is not None:
        dataset.pipeline = copy.deepcopy(pipeline)
    try:
        yield from DataLoader(
            Subset(dataset, indices),
            batch_size=batch_size,
            num_workers=min(loader.num_workers, 1),
            collate_fn=loader.collate_fn,
            multiprocessing_context=loader.multiprocessing_context,
        )
    finally:
        if not loader.num_workers and pipeline is not None:
            dataset.pipeline = pipeline


class PhaseBatches:
    """The iterator of an iteration-based train loop: enters the next phase in time and draws from that phase's loader.

    Phases without a loader of their own share the run's and go on where the phase before stopped.
    """

    def __init__(self, hook, runner):
        self.hook, self.runner = hook, runner
        self.iterators: dict[int, _InfiniteDataloaderIterator] = {}

    def __iter__(self) -> 'PhaseBatches':
        return self

    def __next__(self):
        self.hook.advance(self.runner)
        needed = {id(loader) for loader in self.hook.schedule.loaders[self.hook.index :]}
        for key in [key for key in self.iterators if key not in needed]:
            del self.iterators[key]  # ends workers that no later phase needs
        seed_everything(self.runner.seed, self.runner.iter)
        return next(self._iterator(self.hook.index))

    def _iterator(self, index: int) -> _InfiniteDataloaderIterator:
        loader = self.hook.schedule.loaders[index]
        if id(loader) not in self.iterators:
            # with a generator of its own, starting the loader draws nothing from the global state
            loader.generator = torch.Generator().manual_seed(self.runner.seed)
            self.iterators[id(loader)] = _InfiniteDataloaderIterator(loader)
        return self.iterators[id(loader)]

    def skip_iter(self, steps: int) -> None:
        """Called by the train loop on resume: skip what the first ``steps`` iterations of the run have drawn."""
        drawn: dict[int, int] = {}
        for index, phase in enumerate(self.hook.schedule.phases):
            iterator = self._iterator(index)
            drawn.setdefault(id(iterator), 0)
            drawn[id(iterator)] += min(max(steps - phase.begin, 0), phase.length)
        for iterator in self.iterators.values():
            iterator.skip_iter(drawn[id(iterator)])
