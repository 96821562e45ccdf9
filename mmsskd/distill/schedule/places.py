"""Places: what a sample draws in a worker follows from its place in the run, and from nothing that a worker did before."""

import functools
import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import torch
from mmengine.dist import get_rank
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from ...utils.states import seed_random_states
from .mmengine_private import set_batch_sampler


class Place(NamedTuple):
    """An index with the place of its sample, which a worker is given for it.

    Attributes:
        index: Of the sample, as the sampler gave it.
        words: Seed of the run, number of the loader, pass over it, batch of the pass, sample of the batch, rank.
    """

    index: Any
    words: tuple[int, ...]


class PlacedBatches:
    """A loader's batch sampler, which notes for workers at which place in the run each sample is drawn.

    Workers draw ahead, and live for one pass or for all, as their loader says. So neither a count of their own nor the epoch that
    the run is in tells them where they are.

    Args:
        loader: It gets this in place of its batch sampler.
        number: Of the loader among those of the run.
        endless: Go on with the next pass where one ends, as a run that counts iterations wants it.
    """

    def __init__(self, loader: DataLoader, number: int, endless: bool):
        self.batches: Any = loader.batch_sampler
        self.number, self.endless = number, endless
        self.noted = loader.num_workers > 0 and not isinstance(loader.dataset, IterableDataset)
        self.seed, self.epoch, self.skipped = 0, 0, 0

    def begin(self, seed: int, epoch: int, skipped: int = 0) -> None:
        """Set what the next pass is: its number, and how many batches were drawn before, of which no image is loaded."""
        self.seed, self.epoch, self.skipped = seed, epoch, skipped

    def __iter__(self) -> Iterator[list]:
        batches = self._without_end() if self.endless else ((self.epoch, *each) for each in enumerate(self.batches))
        for epoch, number, batch in itertools.islice(batches, self.skipped, None):
            where = self.seed, self.number, epoch, number
            yield [Place(each, (*where, i, get_rank())) for i, each in enumerate(batch)] if self.noted else batch

    def _without_end(self) -> Iterator[tuple[int, int, list]]:
        for epoch in itertools.count(self.epoch):
            if epoch > self.epoch:
                for sampler in (self.batches, getattr(self.batches, 'sampler', None)):
                    if hasattr(sampler, 'set_epoch'):
                        sampler.set_epoch(epoch)
            yield from ((epoch, *each) for each in enumerate(self.batches))

    def __len__(self) -> int:
        return len(self.batches)

    def __getattr__(self, name: str):
        if name == 'batches':  # a copy that is being made has none yet
            raise AttributeError(name)
        return getattr(self.batches, name)


def place_samples(loaders: Iterable[DataLoader], endless: bool) -> None:
    """Give each loader a :class:`PlacedBatches`, and its workers what they need to go by it."""
    for number, loader in enumerate(dict.fromkeys(loaders)):
        placed = PlacedBatches(loader, number, endless)
        set_batch_sampler(loader, placed)
        if placed.noted:
            loader.worker_init_fn = functools.partial(start_worker, init=loader.worker_init_fn)


def begin_pass(loader: DataLoader, seed: int, epoch: int = 0, skipped: int = 0) -> None:
    """Say what the next pass over ``loader`` is; see :meth:`PlacedBatches.begin`."""
    loader.batch_sampler.begin(seed, epoch, skipped)
    if loader.num_workers or loader.batch_sampler.endless:
        # with a generator of its own, starting the loader and its workers draws nothing from the global state
        loader.generator = torch.Generator().manual_seed(seed)


def start_worker(worker_id: int, init: Callable[[int], None] | None = None) -> None:
    """Make the data set of this worker seed the random states from the place of each sample that it is asked for.

    The object changes its class, here in the worker: a wrapper around it would hide it from hooks that set its pipeline.

    Args:
        worker_id: Within its loader.
        init: What the loader has for its workers besides.
    """
    if init is not None:
        init(worker_id)
    dataset = get_worker_info().dataset
    dataset.__class__ = _seeding(type(dataset))


def _seeding(kind: Any) -> type:
    """A class like ``kind`` that goes by places."""

    def __getitem__(self, place: Place):
        seed_random_states(*place.words)
        return kind.__getitem__(self, place.index)

    def __getitems__(self, places: list[Place]) -> list:
        if not hasattr(kind, '__getitems__'):
            return [self[place] for place in places]
        seed_random_states(*places[0].words)
        return kind.__getitems__(self, [place.index for place in places])

    names = dict(__slots__=(), __getitem__=__getitem__, __getitems__=__getitems__)  # slots: of the same layout
    return type(kind.__name__, (kind,), names)
