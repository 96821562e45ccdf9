"""Dry run: each phase is tried before the first one begins, so that a mistake in the last recipe does not show after days."""

import copy
import random
from collections.abc import Sequence
from contextlib import contextmanager

import numpy as np
import torch
from mmengine.runner import Runner
from mmengine.utils.dl_utils.parrots_wrapper import _BatchNorm, _InstanceNorm
from torch import nn
from torch.utils.data import DataLoader

from ...errors import ConfigError
from ..distiller import StagewiseDistiller
from ..phases import Phase
from .runner_state import batches_beside, build_optimisation, can_be_indexed, check_optimizer

IMAGES = 2


def dry_run(
    runner: Runner,
    distiller: StagewiseDistiller,
    phases: Sequence[Phase],
    loaders: Sequence[DataLoader],
    iterations: Sequence[int],
) -> None:
    """For each phase build its optimiser and schedulers, and compute its losses on two images, without a gradient.

    Weights, buffers, random states, and the Runner's optimiser stay as they are.

    Raises:
        ConfigError: Something fails; the message names the phase.
    """
    held = runner.optim_wrapper, runner.param_schedulers, runner.train_loop.dataloader
    batches: dict[DataLoader, dict | None] = {}
    preprocessor = copy.deepcopy(distiller.data_preprocessor)  # its batch augments may remember sizes
    runner.message_hub.update_info('iter', runner.iter)  # some of them look at it
    distiller.set_epoch(runner.epoch)
    state = {name: value.clone() for name, value in distiller.student.state_dict().items()}
    with _random_states_kept(), torch.no_grad():
        for number, (phase, loader, count) in enumerate(zip(phases, loaders, iterations), 1):
            where = f'phase {number} of {len(phases)} ({phase.name})'
            if not count:
                raise ConfigError(
                    f'{where}: its loader gives no batch: {len(loader.dataset)} images, batch_size {loader.batch_size}'
                )
            distiller.set_phase(phase)
            distiller.train()
            _train_without_statistics(distiller)
            _warn_of_late_ends(runner, phase, count, where)
            runner.train_loop.dataloader = loader
            check_optimizer(phase.optim_wrapper, f'{where}: optim_wrapper')
            try:
                build_optimisation(runner, phase, count)
            except Exception as error:
                raise ConfigError(
                    f'{where}: its optim_wrapper or param_scheduler cannot be built: {_say(error)}'
                ) from error
            try:
                if loader not in batches:
                    batches[loader] = _first_images(loader)
                if batches[loader] is not None:
                    with _same_image_size(distiller.student):
                        distiller.loss(**preprocessor(copy.deepcopy(batches[loader]), True))
            except ConfigError:
                raise
            except Exception as error:
                raise ConfigError(
                    f'{where}: its losses cannot be computed on the first {IMAGES} images of its loader: {_say(error)}'
                ) from error
    runner.optim_wrapper, runner.param_schedulers, runner.train_loop.dataloader = held
    for name, value in distiller.student.state_dict().items():
        value.copy_(state[name])
    distiller.train()


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
    """Refuse a student whose loss resizes the preprocessed image: the stages have learnt from images of another size."""
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
    count = min(IMAGES, len(loader.dataset))
    (batch,) = batches_beside(loader, range(count), count)
    return batch


@contextmanager
def _random_states_kept():
    states = random.getstate(), np.random.get_state()  # noqa: NPY002  what transforms draw from
    devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices=devices):
        yield
    random.setstate(states[0])
    np.random.set_state(states[1])  # noqa: NPY002


def _say(error: Exception) -> str:
    return f'{type(error).__name__}: {error}'
