"""Numbers that are NaN or infinite: a loss ends the run before its step, a weight before it is saved or exported."""

from typing import NoReturn

from mmengine.dist import get_rank
from mmengine.hooks import CheckpointHook
from mmengine.runner import Runner

from ...errors import NonFiniteLossError, some
from ...utils.work_dir import newest_checkpoint
from ..build import not_finite
from ..distiller import StagewiseDistiller
from ..phases import Phase
from .mmengine_private import save_on_this_rank


def is_due(runner: Runner) -> bool:
    """Whether a checkpoint hook saves after this iteration; it may remove an older checkpoint first."""
    hooks = [hook for hook in runner.hooks if isinstance(hook, CheckpointHook) and not hook.by_epoch]
    return any(hook.every_n_train_iters(runner, hook.interval, hook.save_begin) for hook in hooks)


def check_weights(runner: Runner, distiller: StagewiseDistiller, phase: Phase, position: str) -> None:
    """End the run where a weight or buffer is not finite, as after a finite loss with an infinite gradient.

    Args:
        runner, distiller, phase: Of the step that has been made.
        position: Which phase it is, for the message.

    Raises:
        NonFiniteLossError: The message names the weights, and the last checkpoint, which was checked in its time.
    """
    names = not_finite(distiller.state_dict())
    if names:
        raise NonFiniteLossError(
            f'{position}, rank {get_rank()}: the losses were finite, but '
            f'{len(names)} weights or buffers are not any more: {some(names)}. '
            f'{_last_good(runner)} {_remedies(phase)}'
        )


def stop(
    runner: Runner,
    distiller: StagewiseDistiller,
    phase: Phase,
    position: str,
    values: str,
    iteration: int | None = None,
) -> NoReturn:
    """Save a checkpoint on this rank, where its weights are finite, then end the run with a message that says where it was.

    Args:
        runner, distiller, phase: Of the step.
        position: Which phase it is, for the message.
        values: The losses of the step, as text.
        iteration: Its number in the run, from 1; None: it is the current one.

    Raises:
        NonFiniteLossError: Always.
    """
    iteration = runner.iter + 1 if iteration is None else iteration
    if not_finite(dict(distiller.named_parameters())):  # this very forward may have spoilt statistics
        kept = f'The weights were not finite before this step already. {_last_good(runner)}'
    else:
        meta = dict(epoch=runner.epoch, iter=iteration - 1)
        path = save_on_this_rank(runner, f'non_finite_iter_{iteration}_rank{get_rank()}.pth', meta)
        kept = f'The weights as they were before this step are in {path}.'
    raise NonFiniteLossError(
        f'{position}, iteration {iteration} of the run, rank {get_rank()}: {values}. {kept} {_remedies(phase)}'
    )


def _last_good(runner: Runner) -> str:
    """Name the newest checkpoint that can be resumed. None is saved with weights that are not finite."""
    last = newest_checkpoint(runner.work_dir)
    if last is None:
        return f'No checkpoint was saved in {runner.work_dir} before.'
    return f'The last good checkpoint is {last}.'


def _remedies(phase: Phase) -> str:
    return (
        f'Lower the learning rate of this phase ({phase.optim_wrapper.get("optimizer")}), set clip_grad in its optim_wrapper, or '
        'look for images that are not finite after normalization.'
    )
