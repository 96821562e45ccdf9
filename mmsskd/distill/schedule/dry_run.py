"""Dry run: each phase is tried before the first one begins, so that a mistake in the last recipe does not show after days.

What needs no weights (recipes, the first images) is tried before MMEngine initializes them, the losses as soon as they are those
that training starts from.
"""

import copy
from collections.abc import Sequence
from contextlib import contextmanager

import torch
from mmengine.runner import Runner
from mmengine.utils.dl_utils.parrots_wrapper import _BatchNorm, _InstanceNorm
from torch import nn
from torch.utils.data import DataLoader

from ...errors import ConfigError, describe
from ...utils.states import random_states_kept
from ..distiller import StagewiseDistiller
from ..phases import Phase
from .learning import check_learning
from .runner_state import (
    batches_beside,
    build_optimization,
    can_be_indexed,
    check_optimizer,
    count_images,
    message_hub_kept,
)

IMAGES = 2


def try_recipes(
    runner: Runner,
    distiller: StagewiseDistiller,
    phases: Sequence[Phase],
    loaders: Sequence[DataLoader],
    iterations: Sequence[int],
) -> None:
    """Build the optimizer and the schedulers of each phase. The Runner's own stay as they are.

    Raises:
        ConfigError: One cannot be built or would learn nothing, or a loader gives no batch; the message names the phase.
    """
    held = runner.optim_wrapper, runner.param_schedulers, runner.train_loop.dataloader
    for where, phase, loader, count in zip(_places(phases), phases, loaders, iterations):
        if not count:
            raise ConfigError(
                f'{where}: its loader gives no batch: {count_images(loader)} images, batch_size {loader.batch_size}'
            )
        distiller.set_phase(phase)
        _warn_of_late_ends(runner, phase, count, where)
        runner.train_loop.dataloader = loader
        check_optimizer(phase.optim_wrapper, f'{where}: optim_wrapper')
        try:
            build_optimization(runner, phase, count)
        except Exception as error:
            raise ConfigError(
                f'{where}: its optim_wrapper or param_scheduler cannot be built: {describe(error)}'
            ) from error
        check_learning(runner, distiller, phase, loader, count, where)
    runner.optim_wrapper, runner.param_schedulers, runner.train_loop.dataloader = held


def first_batches(phases: Sequence[Phase], loaders: Sequence[DataLoader]) -> list[dict | None]:
    """Build a batch of the first images of each phase; None where a data set cannot be asked for them.

    Raises:
        ConfigError: They cannot be read; the message names the phase.
    """
    batches: dict[DataLoader, dict | None] = {}
    with random_states_kept():
        for where, loader in zip(_places(phases), loaders):
            try:
                if loader not in batches:
                    batches[loader] = _first_images(loader)
            except ConfigError:
                raise
            except Exception as error:
                raise ConfigError(
                    f'{where}: the first {IMAGES} images of its loader cannot be read: {describe(error)}'
                ) from error
    return [batches[loader] for loader in loaders]


def try_losses(
    runner: Runner,
    distiller: StagewiseDistiller,
    phases: Sequence[Phase],
    batches: Sequence[dict | None],
    begins: Sequence[tuple[int, int]],
) -> None:
    """Compute the losses of each phase, without a gradient, as they are when it begins.

    All that a model holds stays as it is (weights, buffers, flags, what its modules count or remember besides), the random states
    and the message hub too.

    Args:
        runner, distiller: With the weights that training starts or goes on from.
        phases, batches: From :func:`first_batches`.
        begins: The epoch and the iteration of the run with which each phase begins, for heads that look at them.

    Raises:
        ConfigError: A loss cannot be computed; the message names the phase.
    """
    hub = runner.message_hub
    with random_states_kept(), message_hub_kept(hub), _modules_kept(distiller), torch.no_grad():
        for where, phase, batch, (epoch, iteration) in zip(_places(phases), phases, batches, begins):
            if batch is None:
                continue
            hub.update_info('epoch', epoch)
            hub.update_info('iter', iteration)
            distiller.set_epoch(epoch)
            distiller.set_phase(phase)
            _train_without_statistics(distiller)
            try:
                with _same_image_size(distiller.student):
                    distiller.loss(**distiller.data_preprocessor(copy.deepcopy(batch), True))
            except ConfigError:
                raise
            except Exception as error:
                raise ConfigError(
                    f'{where}: its losses cannot be computed on the first {IMAGES} images of its loader: {describe(error)}'
                ) from error


def _places(phases: Sequence[Phase]) -> list[str]:
    """Name each phase for messages."""
    return [f'phase {number} of {len(phases)} ({phase.name})' for number, phase in enumerate(phases, 1)]


def _train_without_statistics(distiller: StagewiseDistiller) -> None:
    """Training mode, in which some models return other things to their own loss, but no layer that counts or draws."""
    distiller.train()
    for module in distiller.modules():
        if isinstance(module, (_BatchNorm, _InstanceNorm)) or 'Drop' in type(module).__name__:
            module.training = False


def _warn_of_late_ends(runner: Runner, phase: Phase, iterations: int, where: str) -> None:
    """A warm-up that counts iterations may be longer than the phase on a small data set."""
    for scheduler in phase.param_scheduler or ():
        if not scheduler.get('by_epoch', True) and scheduler.get('end', 0) > iterations:
            runner.logger.warning(
                f'{where}: {scheduler["type"]} ends at iteration {scheduler["end"]}, but the phase has only {iterations}; '
                'set a smaller end in its param_scheduler'
            )


@contextmanager
def _same_image_size(student: nn.Module):
    """Refuse a student whose loss resizes the preprocessed image: the stages have learned from images of another size."""
    seen = []
    handles = [
        student.register_forward_pre_hook(lambda module, args: seen.extend(args[:1])),
        student.backbone.register_forward_pre_hook(lambda module, args: seen.extend(args[:1])),
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
    sizes = [tuple(image.shape[-2:]) for image in seen if torch.is_tensor(image)]
    if len(set(sizes)) > 1:
        raise ConfigError(
            f'{type(student).__name__} resizes the image inside its loss, from {sizes[0]} to {sizes[1]}; the stages would learn '
            'from images of another size. Resize in the pipeline or in data_preprocessor.batch_augments.'
        )


def _first_images(loader: DataLoader) -> dict | None:
    """A batch of the first images; None for a data set that cannot be asked for them."""
    if not can_be_indexed(loader):
        return None
    count = min(IMAGES, count_images(loader))
    (batch,) = batches_beside(loader, range(count), count)
    return batch


@contextmanager
def _modules_kept(distiller: StagewiseDistiller):
    """Within this context a forward may change what the modules hold; then all of it is as it was.

    Weights and buffers are put back. What modules hold besides (a head's epoch, a queue's length, the sizes that a batch augment
    remembers, modules that a forward adds) is copied for the length of the context, in place: a copy of the whole model would
    miss forwards that were replaced by functions around the original module's, as activation checkpointing does.
    """
    modules = list(distiller.modules())
    tensors = [*distiller.parameters(), *distiller.buffers()]
    values = [(tensor, tensor.detach().clone(), tensor.requires_grad) for tensor in tensors]
    held = [(vars(module), dict(vars(module))) for module in modules]
    copies: dict = {id(each): each for each in (distiller.teacher, *modules, *tensors)}  # these are not copied
    for attributes, before in held:
        attributes.update({name: _copy_of(value, copies) for name, value in before.items()})
    try:
        yield
    finally:
        for attributes, before in held:
            attributes.clear()
            attributes.update(before)
        for tensor, value, flag in values:
            tensor.requires_grad_(flag)
            with torch.no_grad():
                tensor.copy_(value)


def _copy_of(value, copies: dict):
    """A deep copy; the value itself where it cannot be copied, such as a lock or a tensor with a graph."""
    try:
        return copy.deepcopy(value, copies)
    except Exception:
        return value
