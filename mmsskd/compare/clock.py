"""What a run notes about itself for the comparison: seconds of training by phase, and the metric as training goes on."""

import time

from mmengine.hooks import Hook
from mmengine.runner import Runner

from ..distill.schedule_hook import StageScheduleHook

SECONDS, CURVE = 'compare_seconds', 'compare_curve'


class ComparisonClock(Hook):
    """Notes the seconds of each epoch of training, validation apart, with the phase it was in, and each value of the metric.

    Both are kept where MMEngine keeps them over a resume.

    Args:
        metric: Key of the task metric.
    """

    priority = 'VERY_HIGH'  # before any hook validates or saves at the end of an epoch

    def __init__(self, metric: str):
        self.metric = metric

    def before_train(self, runner: Runner) -> None:
        for key in (SECONDS, CURVE):
            if key not in runner.message_hub.runtime_info:
                runner.message_hub.update_info(key, [])

    def before_train_epoch(self, runner: Runner) -> None:
        self._since = time.perf_counter()

    def after_train_epoch(self, runner: Runner) -> None:
        schedule = next((hook for hook in runner.hooks if isinstance(hook, StageScheduleHook)), None)
        phase = schedule.index if schedule is not None else 0
        runner.message_hub.get_info(SECONDS).append([phase, time.perf_counter() - self._since])

    def after_val_epoch(self, runner: Runner, metrics: dict | None = None) -> None:
        if metrics and self.metric in metrics:
            runner.message_hub.get_info(CURVE).append([runner.epoch, float(metrics[self.metric])])
