"""A loss that is not finite ends the run before it reaches a weight."""

from typing import NoReturn

import torch
from mmengine.dist import get_rank
from mmengine.runner import Runner

from ..errors import NonFiniteLossError
from .distiller import StagewiseDistiller
from .export import save_checkpoint
from .phase import Phase


def stop(runner: Runner, distiller: StagewiseDistiller, phase: Phase, position: str, values: str) -> NoReturn:
    """Save a checkpoint on this rank, then end the run with a message that says where it was.

    Args:
        runner, distiller, phase: Of the step.
        position: Which phase it is, for the message.
        values: The losses of the step, as text.

    Raises:
        NonFiniteLossError: Always.
    """
    iteration = runner.iter + 1
    meta = dict(epoch=runner.epoch, iter=runner.iter)
    path = save_checkpoint(runner, f'non_finite_iter_{iteration}_rank{get_rank()}.pth', meta)
    finite = all(torch.isfinite(parameter).all() for parameter in distiller.parameters())
    weights = (
        'weights as they were before this step' if finite else 'weights, which are themselves not finite any more,'
    )
    raise NonFiniteLossError(
        f'{position}, iteration {iteration} of the run, rank {get_rank()}: {values}. The {weights} '
        f'are in {path}. Lower the learning rate of this phase ({phase.optim_wrapper.get("optimizer")}), set clip_grad in '
        'its optim_wrapper, or look for images that are not finite after normalisation.'
    )
