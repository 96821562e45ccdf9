"""Private attributes of MMEngine: every touch of one is here, with the reason. A new release of MMEngine is checked here first."""

import os
from contextlib import contextmanager
from functools import partial

import torch
from mmengine.logging import MessageHub
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop, Runner, checkpoint
from mmengine.utils import ManagerMixin
from torch.utils.data import DataLoader

from ...utils.files import replacing
from ...utils.trust import load_as_data


def read_checkpoints_as_data() -> None:
    """Make MMEngine's loaders read checkpoints as data: where its own cannot, they run what the file names.

    All of them, those of ``load_from``, ``--resume`` and ``init_cfg``, of files and of URLs, end in one of these two functions.
    """
    checkpoint._safe_torch_load = _load_file
    checkpoint.load_url = _load_url


def _load_file(file, map_location=None, weights_only=None):
    where = repr(str(file)) if isinstance(file, (str, os.PathLike)) else 'the checkpoint'
    return load_as_data(partial(torch.load, file, map_location=map_location), where)


def _load_url(url: str, **options):
    return load_as_data(partial(torch.hub.load_state_dict_from_url, url, **options), repr(url))


def has_train_loop(runner: Runner) -> bool:
    """Whether the train loop is built. ``runner.train_loop`` would build it, before a resume has set the seed."""
    return isinstance(runner._train_loop, (EpochBasedTrainLoop, IterBasedTrainLoop))


def is_resuming(runner: Runner) -> bool:
    """Whether the checkpoint that is being loaded is resumed, in training. The Runner says neither in public."""
    return bool(runner._resume) and runner._train_loop is not None


def build_train_loop(runner: Runner) -> None:
    """Build the train loop while a checkpoint is being loaded: the phase, and so the optimizer, follows from its loaders."""
    runner._train_loop = runner.build_train_loop(runner._train_loop)


def set_loop_length(runner: Runner, epochs: int | None, iterations: int) -> None:
    """Give the train loop the length of the schedule. Its own ``max_epochs`` and ``max_iters`` can only be read.

    Args:
        runner: With its train loop built.
        epochs: None in an iteration-based run.
        iterations: Of the whole run.
    """
    if epochs is not None:
        runner.train_loop._max_epochs = epochs
    runner.train_loop._max_iters = iterations


def built_loops(runner, splits) -> dict:
    """The loops that are built, by split. The public properties would build them, data sets included."""
    return {split: getattr(runner, f'_{split}_loop', None) for split in splits}


@contextmanager
def scaled_by(runner: Runner, train_dataloader: dict | None):
    """Within this context ``runner.scale_lr`` goes by the batch size of this loader's config, where there is one.

    It reads the config of the run's own loader, from a private attribute.
    """
    own = runner._train_dataloader
    runner._train_dataloader = train_dataloader or own
    try:
        yield
    finally:
        runner._train_dataloader = own


def set_batch_sampler(loader: DataLoader, batches) -> None:
    """Replace the batch sampler of a loader that is built. Torch refuses it: its own kinds must agree with the batch size."""
    vars(loader)['batch_sampler'] = batches


def end_workers(loader: DataLoader) -> None:
    """End the persistent workers of a loader that nothing draws from any more. Torch has no public way."""
    loader._iterator = None


def forget(hub: MessageHub, key: str) -> None:
    """Take a value or a scalar out of the hub, and out of the keys to resume.

    The hub's own ``pop_info`` leaves the key to resume, and a run that goes on warns of each that has no value.
    """
    hub.runtime_info.pop(key, None)
    hub.log_scalars.pop(key, None)
    hub._resumed_keys.pop(key, None)


def parts_of(hub: MessageHub) -> tuple[dict, dict, dict]:
    """Scalars, values, and which of them are resumed: the whole state of a hub, which can be saved in public but not emptied."""
    return hub.log_scalars, hub.runtime_info, hub._resumed_keys


def save_on_this_rank(runner: Runner, name: str, meta: dict) -> str:
    """Save a whole checkpoint into the work dir, beside its place and then renamed, on the rank that calls.

    ``Runner.save_checkpoint`` saves on the first rank only, and a rank that alone meets an error may be another.
    """
    path = os.path.join(runner.work_dir, name)
    with replacing(path) as part:
        Runner.save_checkpoint.__wrapped__(runner, runner.work_dir, part.name, meta=meta)
    return path


def forget_managers() -> None:
    """Drop loggers, visualizers and hubs. MMEngine keeps them by name, and hands them, with their files, to the next such run."""
    kinds: list[type] = [ManagerMixin]
    for kind in kinds:
        kind._instance_dict.clear()  # type: ignore[attr-defined]
        kinds += kind.__subclasses__()
