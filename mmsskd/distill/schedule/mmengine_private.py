"""Private attributes of MMEngine: every touch of one is here, with the reason. A new release of MMEngine is checked here first.

But for a preprocessor's ``_channel_conversion``, which ``teacher.py`` reads: nothing public says that it swaps channels.
"""

import os
from collections import deque
from collections.abc import Callable
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from mmengine.config import Config
from mmengine.dist import is_main_process
from mmengine.fileio import BaseStorageBackend
from mmengine.hooks import CheckpointHook
from mmengine.logging import MessageHub
from mmengine.model import BaseDataPreprocessor
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop, Runner, checkpoint
from mmengine.utils import ManagerMixin
from torch import nn
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


def lay_out_once() -> None:
    """Make MMEngine lay out the text of a config once, as long as the config stays as it is.

    Each checkpoint holds the text, which took a third of a second. And what interrupts the layout, Ctrl-C as well, MMEngine takes
    for a mistake in the config.
    """
    lay_out = Config.pretty_text.fget
    last: dict[str, str] = {}

    def pretty_text(self) -> str:
        content = repr(self._cfg_dict)
        if last.get('content') != content:
            last.update(content=content, text=lay_out(self))
        return last['text']

    Config.pretty_text = property(pretty_text)


def has_train_loop(runner: Runner) -> bool:
    """Whether the train loop is built. ``runner.train_loop`` would build it, before a resume has set the seed."""
    return isinstance(runner._train_loop, (EpochBasedTrainLoop, IterBasedTrainLoop))


def is_resuming(runner: Runner) -> bool:
    """Whether the checkpoint that is being loaded is resumed, in training. The Runner says neither in public."""
    return bool(runner._resume) and runner._train_loop is not None


def build_train_loop(runner: Runner) -> None:
    """Build the train loop while a checkpoint is being loaded: the phase, and so the optimizer, follows from its loaders."""
    runner._train_loop = runner.build_train_loop(runner._train_loop)


def choose_checkpoint(runner: Runner, choose: Callable[[str, str | None], str | None]) -> None:
    """Let ``choose`` say, from the work dir and what the user named, which checkpoint a run that is to be resumed reads.

    MMEngine reads what its note in the work dir names, whatever that is by now. Nothing public says that it will.
    """
    if runner._resume:
        runner._load_from = choose(runner.work_dir, runner._load_from)


def write_whole_checkpoints(runner: Runner) -> None:
    """Let what the Runner saves be written beside its place and then renamed, and removed only after its successor is there.

    MMEngine writes in place, and removes the last checkpoint, or the best one, before it writes the next. A hook of ours in place
    of its CheckpointHook would not be there in configs that inherit their default hooks.
    """
    save = runner.save_checkpoint

    def save_checkpoint(out_dir: str, filename: str, *args, **kwargs) -> None:
        if '://' in str(out_dir) or not is_main_process():  # the other ranks do not save
            save(out_dir, filename, *args, **kwargs)
            return
        with replacing(os.path.join(out_dir, filename)) as part:
            save(out_dir, part.name, *args, **kwargs)

    runner.save_checkpoint = save_checkpoint
    for hook in runner.hooks:
        if isinstance(hook, CheckpointHook):
            hook.__class__ = type(type(hook).__name__, (WholeCheckpoints, type(hook)), {})


class WholeCheckpoints(CheckpointHook):
    """A CheckpointHook that removes nothing before its successor is there."""

    max_keep_ckpts: int
    file_backend: BaseStorageBackend
    asked: list[str]  # best checkpoints whose successors are being written

    def _save_checkpoint_with_step(self, runner, step, meta) -> None:
        self._remove_best()
        keep, ids = self.max_keep_ckpts, [*getattr(self, 'keep_ckpt_ids', ())]
        if keep > 0:
            ids = [*(each for each in ids if each != step), step]
            # the checkpoint names what is still there: where a kill leaves it, MMEngine removes it on resume
            runner.message_hub.update_info('keep_ckpt_ids', ids)
        self.max_keep_ckpts = -1  # then it only saves
        try:
            super()._save_checkpoint_with_step(runner, step, meta)
        finally:
            self.max_keep_ckpts = keep
        if keep > 0:
            for each in ids[:-keep]:
                self._remove(self.file_backend.join_path(self.out_dir, self.filename_tmpl.format(each)))
            self.keep_ckpt_ids = deque(ids[-keep:], keep)
            runner.message_hub.update_info('keep_ckpt_ids', ids[-keep:])

    def _save_best_checkpoint(self, runner, metrics) -> None:
        self.asked, backend = [], self.file_backend
        self.file_backend = _Absent(backend, self.asked)
        try:
            super()._save_best_checkpoint(runner, metrics)
        finally:
            self.file_backend = backend
        self._remove_best()

    def _remove_best(self) -> None:
        """Remove the best checkpoints that have a successor by now, which may have the same name."""
        best = {getattr(self, 'best_ckpt_path', None), *getattr(self, 'best_ckpt_path_dict', {}).values()}
        for path in getattr(self, 'asked', ()):
            if path not in best:
                self._remove(path)
        self.asked = []

    def _remove(self, path: str) -> None:
        backend = self.file_backend.backend if isinstance(self.file_backend, _Absent) else self.file_backend
        if is_main_process() and backend.isfile(path):
            backend.remove(path)


class _Absent:
    """A file backend that notes for which files it is asked, and says that they are not there."""

    def __init__(self, backend, asked: list[str]):
        self.backend, self.asked = backend, asked

    def isfile(self, path: str) -> bool:
        self.asked.append(path)
        return False

    def isdir(self, path: str) -> bool:
        return False

    def __getattr__(self, name: str):
        return getattr(self.backend, name)


def validation_is_due(loop: EpochBasedTrainLoop | IterBasedTrainLoop) -> bool:
    """Whether the loop validates where it is now. It asks itself within the method that trains, with a private method."""
    by_epoch = isinstance(loop, EpochBasedTrainLoop)
    done, end = (loop.epoch, loop.max_epochs) if by_epoch else (loop.iter, loop.max_iters)
    loop._decide_current_val_interval()
    return done >= max(loop.val_begin, 1) and (done % loop.val_interval == 0 or done == end)


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


def metainfo_of(dataset) -> Any:
    """Metainfo of a data set or a wrapper, to be changed: the public property copies it. None where there is none."""
    return getattr(dataset, '_metainfo', None)


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


def copy_without_waiting(preprocessor: nn.Module) -> None:
    """Let a data preprocessor copy batches to the GPU while Python goes on. Most kinds have no argument for it."""
    if isinstance(preprocessor, BaseDataPreprocessor):
        preprocessor._non_blocking = True


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
