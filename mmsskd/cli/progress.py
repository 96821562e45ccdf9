"""The console of a run: one line for each epoch and, on a terminal, one in place with the time that is left."""

import logging
import os
import shutil
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from numbers import Real
from pathlib import Path
from unittest import mock

from mmengine.dist import is_main_process
from mmengine.hooks import Hook, LoggerHook
from mmengine.runner import EpochBasedTrainLoop, LogProcessor, Runner

from ..distill import StageScheduleHook

IN_PLACE, IN_A_FILE = 0.2, 60.0  # seconds between two progress lines
WIDEST = 120  # characters of a line of an epoch, with the time at its beginning
# of schedule and logger, for whose lines ours stand; see `_Console`
LEFT_TO_THE_FILE = ('after_train_iter', 'after_val_iter', 'before_train_epoch', '_close_step', 'after_val_epoch')
CLEAR = '\r\x1b[K'
PACKAGES = map(find_spec, ('mmengine', 'mmcv', 'mmpretrain', 'mmdet'))
THEIRS = tuple(str(Path(spec.origin).parent) + os.sep for spec in PACKAGES if spec and spec.origin)


class Progress(Hook):
    """Show where a run is and when it ends, in place of MMEngine's line of all scalars each few iterations.

    That line stays in the log file and in ``scalars.json``. On the console there is one line for each epoch (in a run that counts
    iterations, for each interval of the logger): phase, epoch, loss, relative error of the stages that follow the teacher, the
    task metric where it was measured, rate, seconds an iteration, and the time that is left of the whole run. It is of at most
    120 characters: where all of that does not fit, it has the error of the last stage alone, or no rate. In between, a line in
    place on a terminal, and one line a minute where the output is a file. A run whose config has a ``log_processor`` of its own
    keeps what that one says.

    It takes ``before_train``, ``after_train_iter``, ``after_train_epoch``, ``after_val_epoch`` and ``after_train``. The time left
    replaces that of MMEngine's timer, which counts no validation and the phases before at their own pace: all lines say the same.
    Later phases are counted at the pace of the present one, for no one has timed them yet.

    Args:
        name: What is said in place of a phase by a run that has none.
        then: What comes after the run and belongs to the time that is left, as a share of the whole run.
    """

    priority = 55  # after the timer, whose time left it replaces, and before the logger, which writes it

    def __init__(self, name: str = 'train', then: float = 0.0):
        self.name, self.then = name, then

    def before_train(self, runner: Runner) -> None:
        self.schedule = next((hook for hook in runner.hooks if isinstance(hook, StageScheduleHook)), None)
        self.by_epoch = isinstance(runner.train_loop, EpochBasedTrainLoop)
        self.interval = next((hook.interval for hook in runner.hooks if isinstance(hook, LoggerHook)), 10)
        self.phase: int | None = None
        self.held: dict[str, str] = {}  # a line that waits for the validation after its epoch
        self.shown = time.monotonic()
        self.console = _Console(is_own=runner.log_processor)
        self.handlers = console_handlers(runner.logger)
        for handler in self.handlers:
            handler.addFilter(self.console)
        self.speaks = is_main_process() and any(handler.level <= logging.INFO for handler in self.handlers)

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch=None, outputs=None) -> None:
        phase = self.schedule.index if self.schedule else 0
        if phase != self.phase:
            # the first iteration of a phase also starts its workers; the pace is that of those after it
            self.phase, self.since, self.first = phase, time.monotonic(), runner.iter
        self.pace = (time.monotonic() - self.since) / max(runner.iter - self.first, 1)
        self.left = self.pace * (runner.max_iters * (1 + self.then) - runner.iter - 1)
        if runner.iter > self.first:
            runner.message_hub.update_info('eta', self.left)
        done, end = runner.iter + 1, self.schedule.phase.end if self.schedule else runner.max_iters
        if not self.by_epoch and (done % self.interval == 0 or done == end):
            self._line(runner, min(self.interval, done), done)
        elif self.speaks and time.monotonic() - self.shown > (IN_PLACE if sys.stdout.isatty() else IN_A_FILE):
            self._in_between(runner)

    def after_train_epoch(self, runner: Runner) -> None:
        if self.by_epoch:
            self._line(runner, len(runner.train_dataloader), runner.epoch + 1)

    def after_val_epoch(self, runner: Runner, metrics: Mapping[str, float] | None = None) -> None:
        done = runner.epoch if self.by_epoch else runner.iter
        self._say(runner, self.held or dict(where=self._where(runner, done)), metrics)

    def after_train(self, runner: Runner) -> None:
        if self.held:
            self._say(runner, self.held)
        self.console.clear()
        for handler in self.handlers:
            handler.removeFilter(self.console)

    def _where(self, runner: Runner, done: int) -> str:
        """Phase, and within it the epoch or iteration, of the run the ``done``-th."""
        unit = 'epoch' if self.by_epoch else 'iter'
        if self.schedule:
            phase = self.schedule.phase
            return f'{self.schedule.position} {unit} {done - phase.begin}/{phase.length}'
        return f'{self.name} {unit} {done}/{runner.max_epochs if self.by_epoch else runner.max_iters}'

    def _line(self, runner: Runner, window: int, done: int) -> None:
        """Log what the last ``window`` iterations gave, and the time left; after the validation, where one follows."""
        scalars = runner.message_hub.log_scalars
        parts = dict(where=self._where(runner, done), loss='', errors='', task='', rate='')
        if 'train/loss' in scalars:
            parts['loss'] = f'loss {scalars["train/loss"].mean(window):.4g}'
        stages = self.schedule.phase.mimic if self.schedule else ()
        errors = {stage: scalars.get(f'train/relative_error_{stage}') for stage in stages}
        said = [f'{stage} {values.mean(window):.3f}' for stage, values in errors.items() if values is not None]
        if said:
            parts['errors'] = 'error ' + ' '.join(said)
            parts['last error'] = f'error {said[-1]}'
        parts['task'] = self._stitched(runner)
        if 'train/lr' in scalars:
            parts['rate'] = f'lr {scalars["train/lr"].current():.2g}'
        parts |= dict(pace=f'{self.pace:.3g} s/iter', left=f'ETA {duration(self.left)}')
        if self.held:  # the validation that was due did not come
            self._say(runner, self.held)
        loop = runner.train_loop
        ends = done == (runner.max_epochs if self.by_epoch else runner.max_iters)
        if runner.val_loop is not None and done >= loop.val_begin and (ends or done % loop.val_interval == 0):
            self.held = parts
        else:
            self._say(runner, parts)

    def _say(self, runner: Runner, parts: dict[str, str], metrics: Mapping[str, float] | None = None) -> None:
        """Log the parts of a line, with what a validation has measured; what does not fit is left out, the least needed first."""
        teacher = runner.message_hub.runtime_info.get('teacher_metrics') or {}
        values = [
            f'{key} {value:.4g}' + (f' (teacher {teacher[key]:.4g})' if key in teacher else '')
            for key, value in (metrics or {}).items()
            if isinstance(value, Real)
        ]
        parts, self.held = dict(parts), {}
        shorter = dict(rate='', errors=parts.pop('last error', ''), pace='')
        if values:
            parts['task'], shorter['task'] = '  '.join(values), values[0]
        if self.schedule:
            shorter['where'] = parts['where'].replace(f' {self.schedule.phase.name}', '')
        for key, text in shorter.items():
            if len(_joined(parts)) + len('00:00:00  ') > WIDEST:
                parts[key] = text
        runner.logger.info(_joined(parts))
        self.shown = time.monotonic()

    def _in_between(self, runner: Runner) -> None:
        share = (runner.iter + 1) / (runner.max_iters * (1 + self.then))
        now = (runner.epoch if self.by_epoch else runner.iter) + 1
        said = [self._where(runner, now), f'{100 * share:.0f} % of the run', self._stitched(runner)]
        self.console.show('  '.join(filter(None, [*said, f'ETA {duration(self.left)}'])))
        self.shown = time.monotonic()

    def _stitched(self, runner: Runner) -> str:
        """The last task metric of the stages so far with the teacher's rest after them."""
        for stage in self.schedule.phase.mimic[-1:] if self.schedule else ():
            for key, values in runner.message_hub.log_scalars.items():
                if key.startswith('val/stitched_') and key.endswith(f'_{stage}'):
                    metric = key.removeprefix('val/stitched_').removesuffix(f'_{stage}')
                    return f'stitched {metric} {values.current():.4g}'
        return ''


def duration(seconds: float) -> str:
    """Hours, minutes and seconds, such as 1:02:03."""
    minutes, rest = divmod(round(seconds), 60)
    return f'{minutes // 60}:{minutes % 60:02d}:{rest:02d}'


def _joined(parts: Mapping[str, str]) -> str:
    return '  '.join(filter(None, parts.values()))


def console_handlers(logger: logging.Logger) -> list[logging.StreamHandler]:
    """Those of a run's logger that write to the console."""
    return [handler for handler in logger.handlers if type(handler) is logging.StreamHandler]


@contextmanager
def quiet_console() -> Iterator[None]:
    """Within this context, a Runner that is built leaves to its log file what OpenMMLab's packages say of themselves.

    That is the environment, the whole config, the hooks and where checkpoints go. The console has our lines and the user's own,
    each with the time before it, and warnings. The handlers are reached as soon as there are any: the Runner prints all of that
    while it is built.
    """
    build = Runner.build_logger

    def build_logger(runner: Runner, *args, **kwargs):
        logger = build(runner, *args, **kwargs)
        for handler in console_handlers(logger):
            handler.addFilter(_is_for_people)
            handler.setFormatter(_Clock())
        logger.info(f'all that is said here, and more: {logger.log_file}')
        return logger

    with mock.patch.object(Runner, 'build_logger', build_logger):
        yield


class _Clock(logging.Formatter):
    """The time and the message, with the level in between where it is not the usual one."""

    def __init__(self):
        super().__init__('%(asctime)s', '%H:%M:%S')

    def formatMessage(self, record: logging.LogRecord) -> str:
        level = '' if record.levelno <= logging.INFO else f'{record.levelname}: '
        return f'{record.asctime}  {level}{record.message}'


def _is_for_people(record: logging.LogRecord) -> bool:
    if 'will be deprecated' in record.getMessage() or 'is the alias of' in record.getMessage():
        return False  # of OpenMMLab about itself
    theirs = record.pathname.startswith(THEIRS) and not record.pathname.endswith('logger_hook.py')  # see `_Console`
    return record.levelno > logging.INFO or not theirs


class _Console(logging.Filter):
    """Keeps MMEngine's long lines, and the schedule's line before each epoch, for the log file; removes a line in place before
    anything else is printed.

    Args:
        is_own: The run's log processor. One of the user's own making, or with lines of the user's own, has its lines printed.
    """

    def __init__(self, is_own: LogProcessor):
        super().__init__()
        self.all = type(is_own) is not LogProcessor or bool(is_own.custom_cfg)
        self.visible = False

    def filter(self, record: logging.LogRecord) -> bool:
        ours = record.funcName in LEFT_TO_THE_FILE and record.levelno == logging.INFO
        long = ours and record.pathname.endswith(('logger_hook.py', 'schedule/hook.py'))
        if long and not self.all:
            return False
        self.clear()
        return True

    def show(self, text: str) -> None:
        if sys.stdout.isatty():
            width = shutil.get_terminal_size().columns - 1
            sys.stdout.write(CLEAR + text[:width])
            sys.stdout.flush()
            self.visible = True
        else:
            print(text, flush=True)

    def clear(self) -> None:
        if self.visible:
            sys.stdout.write(CLEAR)
            sys.stdout.flush()
            self.visible = False
