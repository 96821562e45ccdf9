"""The steps of a plain run as one CUDA graph, as ``cuda_graph=True`` of the schedule's hook makes those of a phase."""

from functools import partial
from types import SimpleNamespace
from typing import Any, NoReturn

from mmengine.hooks import Hook
from mmengine.optim import OptimWrapper
from mmengine.runner import Runner

from ...errors import ConfigError, NonFiniteLossError
from ...registry import HOOKS
from .captured_step import CapturedSteps, cannot_capture
from .hook import StageScheduleHook


@HOOKS.register_module()
class CapturedStepsHook(Hook):
    """Make the steps of a plain run by one CUDA graph, for small networks, of which a GPU waits for Python::

        custom_hooks = [dict(type='mmsskd.CapturedStepsHook')]

    Where a step cannot be recorded, as without a GPU, one line of the log says why, and the run goes without. See docs/speed.md.

    Raises:
        ConfigError: The run has a schedule, whose hook does it.
        NonFiniteLossError: A loss is NaN or infinite; the weights are those before it.

    Example:
        >>> CapturedStepsHook().before_save_checkpoint(runner=None, checkpoint={})  # nothing is waited for before training
    """

    model: Any = None

    def before_train(self, runner: Runner) -> None:
        if any(isinstance(hook, StageScheduleHook) for hook in runner.hooks):
            raise ConfigError(
                'CapturedStepsHook is of plain runs: remove it from custom_hooks, and set cuda_graph=True in the StageScheduleHook'
            )
        model = runner.model
        reason = cannot_capture(runner, model)
        if reason:
            runner.logger.warning(f'CapturedStepsHook: the run goes without: {reason}')
            return
        self.model = model
        model.looks_at_samples, model.measures_agreement, model.on_non_finite = True, False, self._stop
        whole = SimpleNamespace(optim_wrapper=runner.cfg.optim_wrapper)
        model.steps = CapturedSteps(runner, model, whole, 'training')  # type: ignore[arg-type]  # what it asks of both
        model.train_step = self._train_step

    def _train_step(self, data: dict, optim_wrapper: OptimWrapper) -> dict:
        make = self.model.steps or partial(type(self.model).train_step, self.model)
        return make(data, optim_wrapper)

    def after_train_epoch(self, runner: Runner) -> None:
        self._read()

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        self._read()

    def after_train(self, runner: Runner) -> None:
        """Leave a model as any other."""
        self._read()
        if self.model is not None:
            del self.model.train_step
            self.model.steps = self.model = None

    def _read(self) -> None:
        if self.model is not None and self.model.steps is not None:
            self.model.steps.late.read()

    @staticmethod
    def _stop(values: str, iteration: int) -> NoReturn:
        raise NonFiniteLossError(f'iteration {iteration} of the run: {values}. Lower the learning rate')
