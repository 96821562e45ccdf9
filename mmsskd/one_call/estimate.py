"""Time that a run will take: a few steps of each phase, timed."""

import copy
import io
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path

import torch
from mmengine.config import Config, ConfigDict
from mmengine.hooks import Hook
from mmengine.registry import DATASETS, DefaultScope
from mmengine.runner import Runner

from ..distill import StageScheduleHook
from ..distill.build import build_model, resolve_model_cfg, without_init
from ..distill.export import is_stagewise

STEPS = 4  # of each phase; the first is left out


class _Stopwatch(Hook):
    """Time the steps of each phase, loading included, but the first."""

    priority = 'VERY_LOW'

    def before_train(self, runner: Runner) -> None:
        self.schedule = next((hook for hook in runner.hooks if isinstance(hook, StageScheduleHook)), None)
        self.seconds: dict[int, list[float]] = {}
        self.last: tuple[int, float] | None = None

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch=None, outputs=None) -> None:
        phase, now = (self.schedule.index if self.schedule else 0), time.monotonic()
        if self.last and self.last[0] == phase:
            self.seconds.setdefault(phase, []).append(now - self.last[1])
        self.last = phase, now


def seconds_of(run: dict) -> list[float]:
    """Seconds that each phase of a run will take without its validation; one entry for a plain run.

    A few steps of each phase are trained, in a folder that is removed, from random weights of the teacher.

    Args:
        run: Its config; left unchanged.
    """
    cfg = Config(copy.deepcopy(run))
    loaders, lengths = [cfg.train_dataloader], [cfg.train_cfg.max_epochs]
    if is_stagewise(cfg):
        schedule = cfg.default_hooks.stage_schedule
        lengths = [phase['epochs'] for phase in schedule.phases]
        transfer = schedule.transfer.get('train_dataloader')
        loaders = [
            transfer if transfer and phase['train'] not in ('head', 'all') else cfg.train_dataloader
            for phase in schedule.phases
        ]
    with DefaultScope.overwrite_default_scope(cfg.default_scope), _quiet():
        sizes = {id(loader): len(DATASETS.build(copy.deepcopy(loader.dataset))) for loader in loaders}
    steps = [length * max(sizes[id(loader)] // loader.batch_size, 1) for length, loader in zip(lengths, loaders)]
    for loader in {id(each): each for each in (cfg.train_dataloader, *loaders)}.values():
        _shorten(loader, sizes[id(loader)])
    cfg.train_cfg = dict(by_epoch=True, max_epochs=1)
    for split in ('val', 'test'):
        for part in ('dataloader', 'cfg', 'evaluator'):
            cfg[f'{split}_{part}'] = None
    cfg.default_hooks.checkpoint = None
    cfg.load_from, cfg.log_level, cfg.visualizer = None, 'ERROR', None
    folder = Path(tempfile.mkdtemp(prefix='mmsskd'))
    try:
        cfg.work_dir, cfg.experiment_name = str(folder), folder.name
        if is_stagewise(cfg):
            teacher = without_init(resolve_model_cfg(cfg.model.teacher, 'teacher'))
            torch.save(dict(state_dict=build_model(teacher).state_dict()), folder / 'untrained.pth')
            cfg.model.teacher, cfg.model.teacher_checkpoint = teacher, str(folder / 'untrained.pth')
            cfg.default_hooks.stage_schedule.update(save_phase_ends=False, evaluate_teacher=False)
            for phase in cfg.default_hooks.stage_schedule.phases:
                phase['epochs'] = 1
        watch = _Stopwatch()
        with _quiet():
            runner = Runner.from_cfg(cfg)
            runner.register_hook(watch)
            runner.train()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    paces = [min(watch.seconds.get(phase) or [0.0]) for phase in range(len(steps))]
    return [count * pace for count, pace in zip(steps, paces)]


def _shorten(loader: ConfigDict, whole: int) -> None:
    size = STEPS * loader.batch_size
    loader.dataset.indices = [i * whole // size for i in range(size)]  # of all classes
    loader.num_workers = 0
    loader.pop('persistent_workers', None)
    loader.drop_last = False


@contextmanager
def _quiet() -> Iterator[None]:
    """Drop what is printed: of a run that is only timed nobody wants the log."""
    with redirect_stdout(io.StringIO()):
        yield
