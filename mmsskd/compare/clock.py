"""Notes of a run for the comparison: seconds of training by phase, and the metric as training goes on."""

import json
import time
from pathlib import Path

from mmengine.hooks import CheckpointHook, Hook
from mmengine.runner import Runner

from ..distill.schedule.hook import StageScheduleHook
from ..utils.files import write_text
from ..utils.states import random_states, set_random_states

SAVE_AFTER = 30.0  # seconds of training that an interruption may cost, and what is left of an epoch
SECONDS, DRAWS = 'compare_seconds', 'compare_draws'


class ComparisonClock(Hook):
    """Note the seconds of each epoch of training, validation apart, and each value of the metric, also over an interruption.

    Checkpoints keep the seconds, as ``[phase, seconds, jobs, whether it was the first epoch of its process]``, and the states that
    random numbers are drawn from: a plain run, which no schedule seeds anew at each epoch, draws after a resume what it would have
    drawn. They are saved by the time, too. Points of the curve are in ``curve.json`` beside them, since MMEngine validates after it
    has saved.

    Args:
        metric: Key of the task metric.
        jobs: Runs that share the machine meanwhile.
    """

    priority = 'VERY_HIGH'  # before any hook validates or saves at the end of an epoch

    def __init__(self, metric: str, jobs: int):
        self.metric, self.jobs = metric, jobs

    def before_train(self, runner: Runner) -> None:
        self._first, self._saved = True, time.monotonic()
        self._intervals = {hook: hook.interval for hook in runner.hooks if isinstance(hook, CheckpointHook)}
        if SECONDS not in runner.message_hub.runtime_info:
            runner.message_hub.update_info(SECONDS, [])

    def before_train_epoch(self, runner: Runner) -> None:
        if DRAWS in runner.message_hub.runtime_info:
            set_random_states(runner.message_hub.get_info(DRAWS))
        self._since = time.perf_counter()

    def after_train_epoch(self, runner: Runner) -> None:
        schedule = next((hook for hook in runner.hooks if isinstance(hook, StageScheduleHook)), None)
        phase = schedule.index if schedule is not None else 0
        note = [phase, time.perf_counter() - self._since, self.jobs, self._first]
        runner.message_hub.get_info(SECONDS).append(note)
        runner.message_hub.update_info(DRAWS, random_states())
        self._first = False
        due = time.monotonic() - self._saved >= SAVE_AFTER
        for hook, interval in self._intervals.items():  # it comes after this one
            hook.interval = 1 if due else interval
        if due:
            self._saved = time.monotonic()

    def after_val_epoch(self, runner: Runner, metrics: dict | None = None) -> None:
        if metrics and self.metric in metrics:
            points = dict(read_curve(runner.work_dir)) | {runner.epoch: float(metrics[self.metric])}
            write_text(Path(runner.work_dir, 'curve.json'), json.dumps(sorted(points.items())))


def read_curve(work_dir: str) -> list[list]:
    """Points [epoch, metric] that were validated in ``work_dir``."""
    file = Path(work_dir, 'curve.json')
    return json.loads(file.read_text()) if file.is_file() else []
