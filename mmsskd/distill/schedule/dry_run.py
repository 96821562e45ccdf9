"""Dry run: what can be tried before the first phase begins is, so that a mistake in the last recipe does not show after days.

What needs no weights (recipes, the first images) is tried before MMEngine initializes them, the losses as soon as they are those
that training starts from.
"""

import copy
import warnings
from collections.abc import Sequence
from contextlib import contextmanager
from typing import Any

import torch
from mmengine.logging import MessageHub
from mmengine.optim import OptimWrapper
from mmengine.runner import Runner
from mmengine.utils.dl_utils.parrots_wrapper import _BatchNorm, _InstanceNorm
from torch import nn
from torch.utils.data import DataLoader, SequentialSampler, Subset

from ...errors import ConfigError, explaining
from ...utils.states import random_states_kept
from ..distiller import StagewiseDistiller
from ..phases import Phase
from .mmengine_private import parts_of
from .runner_state import build_optimization, check_optimizer

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
        with explaining(f'{where}: its optim_wrapper or param_scheduler cannot be built'):
            build_optimization(runner, phase, count)
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
            first = range(count_images(loader))[:IMAGES]
            with explaining(f'{where}: the first {IMAGES} images of its loader cannot be read'):
                if loader not in batches:
                    batches[loader] = batch_beside(loader, first) if first else None
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
    with random_states_kept(), _message_hub_kept(hub), _modules_kept(distiller), torch.no_grad():
        for where, phase, batch, (epoch, iteration) in zip(_places(phases), phases, batches, begins):
            if batch is None:
                continue
            hub.update_info('epoch', epoch)
            hub.update_info('iter', iteration)
            distiller.set_epoch(epoch)
            distiller.set_phase(phase)
            _train_without_statistics(distiller)
            what = f'{where}: its losses cannot be computed on the first {IMAGES} images of its loader'
            with explaining(what), _same_image_size(distiller.student):
                distiller.loss(**distiller.data_preprocessor(copy.deepcopy(batch), True))


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
    """Schedulers may be made for a longer phase: a warm-up on a small data set, milestones of a whole run."""
    for scheduler in phase.param_scheduler or ():
        unit, length = ('epoch', phase.length) if scheduler.get('by_epoch', True) else ('iteration', iterations)
        end = scheduler.get('end', length)
        late = [step for step in scheduler.get('milestones', ()) if step >= end]
        if end > length or late:
            runner.logger.warning(
                f'{where}: {scheduler["type"]} ends at {unit} {end}, the phase at {length}'
                f'{f", its milestones {late} are not reached" if late else ""}; both count from the start of the phase, so change '
                'its param_scheduler'
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


def count_images(loader: DataLoader) -> int:
    """Number of images of a loader's data set; 0 where they cannot be had by their number."""
    dataset: Any = loader.dataset
    return len(dataset) if hasattr(dataset, '__getitem__') and hasattr(dataset, '__len__') else 0


def batch_beside(loader: DataLoader, indices: Sequence[int]) -> dict:
    """A batch of chosen images, outside the order of ``loader``, which goes on afterwards as if nothing had been drawn.

    In a worker where the run has workers: what a data set opens on first use must not be shared with them. Else with a copy of
    the pipeline, whose transforms may keep images.
    """
    dataset: Any = loader.dataset
    pipeline = None if loader.num_workers else getattr(dataset, 'pipeline', None)
    if pipeline is not None:
        dataset.pipeline = copy.deepcopy(pipeline)
    try:
        (batch,) = DataLoader(
            Subset(dataset, indices),
            batch_size=len(indices),
            num_workers=min(loader.num_workers, 1),
            collate_fn=loader.collate_fn,
            multiprocessing_context=loader.multiprocessing_context,
        )
        return batch
    finally:
        if pipeline is not None:
            dataset.pipeline = pipeline


@contextmanager
def _message_hub_kept(hub: MessageHub):
    """Within this context ``hub`` may be written to; then it is as it was, which keys it resumes included."""
    parts = parts_of(hub)
    before = copy.deepcopy(parts[0]), *map(dict, parts[1:])
    try:
        yield
    finally:
        for part, kept in zip(parts, before):
            part.clear()
            part.update(kept)


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


# -- whether a phase can learn anything with its recipe ----------------------------------------------------------------


MOST_STEPS = 200_000  # of schedulers that are walked through before training: a second or two
NEARLY_ZERO = 1e-6  # of the highest learning rate of a phase
MOST_IDLE = 0.34  # share of a phase without a learning rate up to which nothing is said


def check_learning(
    runner: Runner, distiller: StagewiseDistiller, phase: Phase, loader: DataLoader, iterations: int, where: str
) -> None:
    """Look at the recipe of a phase, with its optimizer and schedulers in the Runner, which are used up.

    Raises:
        ConfigError: It makes a single step, or a scheduler fails on the way.
    """
    wrapper = runner.optim_wrapper
    counts = phase.optim_wrapper.get('accumulative_counts', 1)
    if counts > iterations:
        raise ConfigError(
            f'{where}: optim_wrapper.accumulative_counts={counts}, but the phase has only {iterations} iterations, so it would '
            f'make a single step; set it to a fraction of {iterations}, or make the phase longer'
        )
    key = 'train_dataloader' if not phase.train_dataloader else f'{where}: train_dataloader'
    sampler = getattr(loader.batch_sampler, 'sampler', loader.sampler)
    in_order = isinstance(sampler, SequentialSampler) or getattr(sampler, 'shuffle', None) is False
    if len(loader) > 1 and in_order:
        runner.logger.warning(
            f'{key}: its sampler does not shuffle, so each epoch sees the same batches in the same order, of few classes where '
            "the data set is sorted; set sampler=dict(type='DefaultSampler', shuffle=True)"
        )
    modules = distiller.training_modules().values()
    if loader.batch_size == 1 and any(isinstance(module, _BatchNorm) and module.training for module in modules):
        runner.logger.warning(
            f'{where}: batch_size=1 with batch normalization, which then takes the statistics of a single image; make the batch '
            'larger, or normalize otherwise (norm_cfg, or norm_eval=True with pretrained statistics)'
        )
    _check_keys_match(runner, distiller, phase, where)
    if isinstance(wrapper, OptimWrapper) and isinstance(runner.param_schedulers, list):
        _check_rates(runner, phase, iterations, where)


def _check_keys_match(runner: Runner, distiller: StagewiseDistiller, phase: Phase, where: str) -> None:
    """A key of ``custom_keys`` that sets a learning rate must be part of a parameter's name; MMEngine does not look."""
    keys = (phase.optim_wrapper.get('paramwise_cfg') or {}).get('custom_keys') or {}
    names = [name.removeprefix('student.') for name, _ in distiller.named_parameters()]
    for key, options in keys.items():
        if options.get('lr_mult', 1) != 1 and not any(key in name for name in names):
            runner.logger.warning(
                f"{where}: {key!r} in optim_wrapper.paramwise_cfg.custom_keys is part of no parameter's name, so its lr_mult "
                f'changes nothing; names are those of the plain student, such as {names[0]!r}'
            )


def _check_rates(runner: Runner, phase: Phase, iterations: int, where: str) -> None:
    """Walk through the learning rates of the phase."""
    groups, by_epoch = runner.optim_wrapper.optimizer.param_groups, runner.train_loop.max_epochs is not None
    del groups[1:]  # all follow the same schedulers
    schedulers = [each for each in runner.param_schedulers if not getattr(each, 'need_step_args', False)]
    each_epoch = [each for each in schedulers if each.by_epoch]
    each_iteration = [each for each in schedulers if not each.by_epoch]
    in_epoch = iterations // phase.length if by_epoch else iterations
    rates, steps = [], 0
    kinds = ', '.join(type(each).__name__ for each in schedulers)
    with (
        warnings.catch_warnings(),
        explaining(f'{where}: its param_scheduler fails in the middle of the phase ({kinds})'),
    ):
        warnings.simplefilter('ignore')  # of steps without the optimizer's
        for _ in range(iterations // in_epoch):
            active = [each for each in each_iteration if each.last_step + each.begin < each.end]
            for _ in range(in_epoch if active else 1):
                rates.append((groups[0]['lr'], 1 if active else in_epoch))
                for each in active:
                    each.step()
            for each in each_epoch:
                each.step()
            steps += len(active) * in_epoch
            if steps > MOST_STEPS:
                break
    highest = max(rate for rate, _ in rates)
    idle = sum(count for rate, count in rates if rate <= NEARLY_ZERO * highest) / sum(count for _, count in rates)
    if idle > MOST_IDLE:
        runner.logger.warning(
            f'{where}: its learning rate is 0 in {idle:.0%} of its iterations; look at begin, end, factor and eta_min of its '
            'param_scheduler, which count from the start of the phase'
        )
