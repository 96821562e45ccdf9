"""The console of a run: one line for each epoch and, on a terminal, one in place with the time that is left."""

import io
import logging
import shutil
import sys
import time
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path

from mmengine.dist import is_main_process
from mmengine.hooks import Hook, LoggerHook
from mmengine.runner import EpochBasedTrainLoop, LogProcessor, Runner

from ..distill import StageScheduleHook

IN_PLACE, IN_A_FILE = 0.2, 60.0  # seconds between two progress lines
LEFT_TO_THE_FILE = ('after_train_iter', 'after_val_iter', 'before_train_epoch')  # see `_Console`
CLEAR = '\r\x1b[K'


class Progress(Hook):
    """Show where a run is and when it ends, in place of MMEngine's line of all scalars each few iterations.

    That line stays in the log file and in ``scalars.json``. On the console there is one line for each epoch (in a run that counts
    iterations, for each interval of the logger): phase, epoch, loss, relative error of the stages that follow the teacher, rate,
    seconds an iteration, and the time that is left of the whole run. In between, a line in place on a terminal, and one line a
    minute where the output is a file. A run whose config has a ``log_processor`` of its own keeps what that one says.

    It takes ``before_train``, ``after_train_iter``, ``after_train_epoch`` and ``after_train``. The time left replaces that of
    MMEngine's timer, which counts no validation and the phases before at their own pace: all lines say the same. Later phases are
    counted at the pace of the present one, for no one has timed them yet.

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
        self.shown = time.monotonic()
        self.console = _Console(is_own=runner.log_processor)
        self.handlers = [handler for handler in runner.logger.handlers if type(handler) is logging.StreamHandler]
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
        done, end = runner.iter + 1, self._ends(runner)
        if not self.by_epoch and (done % self.interval == 0 or done == end):
            self._line(runner, min(self.interval, done))
        elif self.speaks and time.monotonic() - self.shown > (IN_PLACE if sys.stdout.isatty() else IN_A_FILE):
            self._in_between(runner)

    def after_train_epoch(self, runner: Runner) -> None:
        if self.by_epoch:
            self._line(runner, len(runner.train_dataloader))

    def after_train(self, runner: Runner) -> None:
        self.console.clear()
        for handler in self.handlers:
            handler.removeFilter(self.console)

    def _ends(self, runner: Runner) -> int:
        """The iteration of a run without epochs at which the phase ends."""
        return self.schedule.phase.end if self.schedule else runner.max_iters

    def _where(self, runner: Runner) -> str:
        """Phase, and the epoch or iteration within it."""
        position, unit = (self.name, 'epoch' if self.by_epoch else 'iter')
        now, begin, length = (
            (runner.epoch, 0, runner.max_epochs) if self.by_epoch else (runner.iter, 0, runner.max_iters)
        )
        if self.schedule:
            position, phase = self.schedule.position, self.schedule.phase
            begin, length = phase.begin, phase.length
        return f'{position} {unit} {now - begin + 1}/{length}'

    def _line(self, runner: Runner, window: int) -> None:
        """Log what the last ``window`` iterations gave, and the time left."""
        scalars = runner.message_hub.log_scalars
        parts = [self._where(runner)]
        if 'train/loss' in scalars:
            parts.append(f'loss {scalars["train/loss"].mean(window):.4g}')
        stages = self.schedule.phase.mimic if self.schedule else ()
        errors = {stage: scalars.get(f'train/relative_error_{stage}') for stage in stages}
        said = [f'{stage} {values.mean(window):.3f}' for stage, values in errors.items() if values is not None]
        if said:
            parts.append('relative error ' + ' '.join(said))
        parts += self._stitched(runner)
        if 'train/lr' in scalars:
            parts.append(f'lr {scalars["train/lr"].current():.2g}')
        parts += [f'{self.pace:.3g} s/iter', f'ETA {duration(self.left)}']
        runner.logger.info('  '.join(parts))
        self.shown = time.monotonic()

    def _in_between(self, runner: Runner) -> None:
        share = (runner.iter + 1) / (runner.max_iters * (1 + self.then))
        parts = [self._where(runner), f'{100 * share:.0f} % of the run', *self._stitched(runner)]
        self.console.show('  '.join([*parts, f'ETA {duration(self.left)}']))
        self.shown = time.monotonic()

    def _stitched(self, runner: Runner) -> list[str]:
        """The last task metric of the stages so far with the teacher's rest behind them."""
        stage = f'_{self.schedule.phase.mimic[-1]}' if self.schedule and self.schedule.phase.mimic else None
        scalars = runner.message_hub.log_scalars
        keys = [key for key in scalars if key.startswith('val/stitched_') and stage and key.endswith(stage)]
        return [
            f'stitched {key.removeprefix("val/stitched_").removesuffix(stage)} {scalars[key].current():.4g}'
            for key in keys[:1]
        ]


def duration(seconds: float) -> str:
    """Hours, minutes and seconds, such as 1:02:03."""
    minutes, rest = divmod(round(seconds), 60)
    return f'{minutes // 60}:{minutes % 60:02d}:{rest:02d}'


def build_quietly(build: Callable[[], Runner]) -> Runner:
    """Build a Runner whose console has our own lines, warnings and the results of validations; the log file has all.

    MMEngine's Runner prints its environment and its whole config while it is built, before anyone can reach its logger.
    """
    with redirect_stdout(io.StringIO()) as said:
        runner = build()
    for line in said.getvalue().splitlines():
        if ' - WARNING - ' in line:
            print(line, flush=True)
    for handler in runner.logger.handlers:
        if type(handler) is logging.StreamHandler:
            handler.setStream(sys.stdout)
            handler.addFilter(_is_for_people)
    return runner


def _is_for_people(record: logging.LogRecord) -> bool:
    ours = str(Path(__file__).resolve().parents[1])
    if 'will be deprecated' in record.getMessage() or 'is the alias of' in record.getMessage():
        return False  # of OpenMMLab about itself
    return record.levelno > logging.INFO or record.pathname.startswith(ours) or record.funcName == 'after_val_epoch'


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
