"""Dry run: what can be tried before the first phase begins is, so that a mistake in the last recipe does not show after days.

What needs no weights (recipes, the first images, samples of labels and images) is tried before MMEngine initializes them, the
losses as soon as they are those that training starts from. A set of COCO's size is never read whole: labels and names of files are
those of the list, a few images go through the pipeline.
"""

import copy
import hashlib
import os
import time
import warnings
from collections.abc import Hashable, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from mmengine.dataset import BaseDataset
from mmengine.logging import MessageHub
from mmengine.optim import OptimWrapper
from mmengine.runner import Runner
from mmengine.utils.dl_utils.parrots_wrapper import _BatchNorm, _InstanceNorm
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, SequentialSampler, Subset

from ...errors import ConfigError, explaining
from ...utils.states import random_states_kept
from ..distiller import StagewiseDistiller
from ..losses import channel_variance
from ..phases import Phase, loader_keys
from .data_checks import count_classes, head_classes, plain_datasets, spread
from .mmengine_private import parts_of
from .runner_state import build_optimization, check_optimizer, seed_everything

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
                f'{where}: its loader gives no batch: {_count(loader)} images, batch_size {loader.batch_size}'
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
            first = range(_count(loader))[:IMAGES]
            with explaining(f'{where}: the first {IMAGES} images of its loader cannot be read'):
                if loader not in batches:
                    batches[loader] = _batch_beside(loader, first) if first else None
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


def _count(loader: DataLoader) -> int:
    """Number of images of a loader's data set; 0 where they cannot be had by their number."""
    dataset: Any = loader.dataset
    return len(dataset) if hasattr(dataset, '__getitem__') and hasattr(dataset, '__len__') else 0


def _batch_beside(loader: DataLoader, indices: Sequence[int]) -> dict:
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


# -- samples: what a few labels and images of each set, and the features of them, say ----------------------------------


MOST_LABELS = 2000  # of a set that are looked at
MOST_CONTENTS = 200  # images of a set whose content is compared
STAT_SECONDS = 2  # of looking at files
FEWEST_LABELS = 20  # labels from which something may be concluded
LEAKED = 0.05  # share of validation images that are training images up to which nothing is said
LOOKED_AT = 8  # that go through the pipeline
SCALES = 0.03, 150  # standard deviations of a normalized image; some networks divide by 1 (caffe), some by 255
FLAT = 1e-6  # variance of a feature over its mean square, below which it is the same for all images and places
UNLIKE = 8  # times the standard deviation of the other set


def check_samples(
    runner: Runner, distiller: StagewiseDistiller, phases: Sequence[Phase], loaders: Sequence[DataLoader]
) -> None:
    """Look at samples of the training sets and of the validation set, and at what the teacher makes of them.

    Raises:
        ConfigError: All training labels that are learned are the same, a label stands for no class, or all images are blank.
    """
    keys: dict[DataLoader, str] = {}
    for key, loader in zip(loader_keys(phases), loaders):
        keys.setdefault(loader, key)
    learned = {loader for phase, loader in zip(phases, loaders) if phase.task_loss}
    val = None if runner.val_loop is None else runner.val_loop.dataloader
    heads = max(head_classes(distiller.student).values(), default=0)
    for loader in learned:
        _check_labels(runner, loader.dataset, keys[loader], heads, learned=True)
    if val is not None:
        _check_labels(runner, val.dataset, 'val_dataloader', heads, learned=False)
        for loader, key in keys.items():
            _check_apart(runner, loader.dataset, val.dataset, key)
    looks = {loader: _look(runner, distiller, loader, key) for loader, key in keys.items()}
    if val is not None:
        look = _look(runner, distiller, val, 'val_dataloader')
        for loader, key in keys.items():
            _compare(runner, key, looks[loader], look)
        _check_repeats(runner, val)
    inputs = _preprocess(distiller, loaders[0])
    if inputs is not None:
        _check_features(runner, distiller, phases, inputs)


# -- labels ------------------------------------------------------------------------------------------------------------


def _check_labels(runner: Runner, dataset: Dataset, key: str, heads: int, learned: bool) -> None:
    """Labels must stand for classes, and for several of them."""
    labels = [label for _, plain in plain_datasets(dataset) for label in _labels(plain)]
    classes = max((count_classes(plain) for _, plain in plain_datasets(dataset)), default=0)
    limit = max(classes, heads)
    wrong = next((label for label in labels if label < 0 or (limit and label >= limit)), None)
    if wrong is not None:
        raise ConfigError(
            f'{key}: an image has label {wrong}, but labels of {limit} classes are numbered from 0 to {limit - 1}; number them '
            'from 0 on'
        )
    found = sorted(set(labels))
    if len(labels) < FEWEST_LABELS or classes < 2:
        return
    if len(found) == 1:
        message = f'{key}: all of {len(labels)} labels that were looked at are label {found[0]}, of {classes} classes'
        message += '; look at ann_file, at the folders of the classes, and at `indices`'
        if learned:
            raise ConfigError(message)
        runner.logger.warning(message)
    elif len(labels) >= 10 * classes and len(found) <= classes / 2:
        runner.logger.warning(
            f'{key}: only {len(found)} of the {classes} classes occur among {len(labels)} labels that were looked at; is the '
            'set cut by `indices`, or its list another one?'
        )


def _labels(dataset: Any) -> list[int]:
    """Some labels, evenly spread over a data set; none where it has several for an image, or decodes images on the way."""
    if 'get_gt_labels' in vars(type(dataset)):  # which need not look at the images
        every = np.asarray(dataset.get_gt_labels())
        return [int(label) for label in every[spread(len(every), MOST_LABELS)]] if every.ndim == 1 else []
    labels: list[int] = []
    for info in _infos(dataset, MOST_LABELS):
        label, instances = info.get('gt_label'), info.get('instances')
        if isinstance(label, (int, np.integer)):
            labels.append(int(label))
        elif isinstance(instances, (list, tuple)):
            labels += [one['bbox_label'] for one in instances if 'bbox_label' in one and not one.get('ignore_flag')]
    return labels


def _infos(dataset: Dataset, most: int) -> list[dict]:
    """Items of a data set of MMEngine for some of its images, without its pipeline."""
    if not isinstance(dataset, BaseDataset) or type(dataset).get_data_info is not BaseDataset.get_data_info:
        return []
    return [dataset.get_data_info(i) for i in spread(len(dataset), most)]


# -- training images in validation -------------------------------------------------------------------------------------


def _check_apart(runner: Runner, train: Dataset, val: Dataset, key: str) -> None:
    """Warn of validation images that are training images: the same file, or another one with the same content."""
    sets: list[list[Any]] = [[plain for _, plain in plain_datasets(outer)] for outer in (train, val)]
    for most, identify in ((MOST_LABELS, _paths), (MOST_CONTENTS, _contents)):
        ours, theirs = ({one for plain in each for one in identify(_infos(plain, most))} for each in sets)
        if not ours or not theirs:
            continue
        hits = len(ours & theirs)
        # of all training images, of which only some were looked at
        share = min(hits / len(theirs) * sum(map(len, sets[0])) / len(ours), 1)
        if hits >= min(2, len(theirs)) and share > LEAKED:
            runner.logger.warning(
                f'val_dataloader: about {share:.0%} of its images are training images ({key}), so its metrics say nothing of '
                'new images and choose the wrong best checkpoint; look at ann_file, data_root and data_prefix of both'
            )
            return


def _paths(infos: Sequence[Mapping]) -> list[Hashable]:
    """Paths, or the pixels of images that are in memory."""
    paths = [os.path.realpath(info['img_path']) for info in infos if isinstance(info.get('img_path'), str)]
    return paths + [_hash(info['img'].tobytes()) for info in infos if isinstance(info.get('img'), np.ndarray)]


def _contents(infos: Sequence[Mapping]) -> list[Hashable]:
    """Contents of files on a local disk, as far as time allows."""
    found: list[Hashable] = []
    end = time.monotonic() + STAT_SECONDS
    for info in infos:
        path = info.get('img_path')
        if not isinstance(path, str) or '://' in path or time.monotonic() > end:
            continue
        try:
            with open(path, 'rb') as file:
                found.append(_hash(file.read()))
        except OSError:
            continue
    return found


def _hash(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=16).hexdigest()


# -- images ------------------------------------------------------------------------------------------------------------


def _look(runner: Runner, distiller: StagewiseDistiller, loader: DataLoader, key: str) -> tuple[float, float] | None:
    """Mean and standard deviation of some images as the pipeline gives them; None where they cannot be had.

    Raises:
        ConfigError: All of them have a single value.
    """
    images = _images(loader, LOOKED_AT, key)
    blank = sum(bool(image.max() == image.min()) for image in images)
    if images and blank == len(images):
        raise ConfigError(
            f'{key}: all of {blank} images that were looked at have one value, {images[0].max():.4g}, in every pixel after the '
            'pipeline; look at the transforms of its dataset.pipeline'
        )
    if blank > len(images) / 2:
        runner.logger.warning(
            f'{key}: {blank} of {len(images)} images that were looked at have one value in every pixel'
        )
    if not images:
        return None
    pixels = torch.cat([image.flatten() for image in images])
    mean, spread_ = pixels.mean().item(), pixels.std().item()
    divisor = getattr(distiller.data_preprocessor, 'std', None)
    if torch.is_tensor(divisor):
        scale = spread_ / divisor.float().mean().item()
        found = f'{key}: images have a mean of {mean:.3g} and a standard deviation of {spread_:.3g} after the pipeline, and are '
        found += (
            f'then normalized by data_preprocessor with std={[round(value, 3) for value in divisor.flatten().tolist()]}'
        )
        if scale > SCALES[1]:
            runner.logger.warning(f'{found}: are mean and std those of images from 0 to 1? Multiply them by 255')
        elif scale < SCALES[0]:
            runner.logger.warning(f'{found}: are they normalized twice? Take Normalize out of the pipeline')
    return mean, spread_


def _images(loader: DataLoader, most: int, key: str) -> list[Tensor]:
    """Some images after the pipeline, as float32 on the CPU; none where a batch has another form than inputs of images."""
    indices = spread(_count(loader), most)
    if not indices:
        return []
    with explaining(f'{key}: one of the images {list(indices)} cannot be read'), random_states_kept():
        batch = _batch_beside(loader, indices)
    inputs = batch.get('inputs') if isinstance(batch, Mapping) else None
    if not isinstance(inputs, (list, tuple, Tensor)) or not all(torch.is_tensor(image) for image in inputs):
        return []
    return [image.float() for image in inputs]


def _compare(runner: Runner, key: str, train: tuple[float, float] | None, val: tuple[float, float] | None) -> None:
    if train is None or val is None:
        return
    (mean, deviation), (other_mean, other) = train, val
    low, high = sorted((deviation, other))
    if high > UNLIKE * low or abs(mean - other_mean) > UNLIKE / 2 * high:
        runner.logger.warning(
            f'val_dataloader: its images have other values (mean {other_mean:.3g}, standard deviation {other:.3g}) than those of '
            f'{key} ({mean:.3g}, {deviation:.3g}) after the pipeline; load and normalize them in the same way'
        )


def _check_repeats(runner: Runner, val: DataLoader) -> None:
    """Warn of a validation set whose images are not the same when they are asked for again."""
    first = _images(val, 2, 'val_dataloader')
    with random_states_kept():
        seed_everything(int(torch.randint(2**31, ())), 1)  # other random numbers than at first
        second = _images(val, 2, 'val_dataloader')
    if any(one.shape != other.shape or not torch.equal(one, other) for one, other in zip(first, second)):
        runner.logger.warning(
            'val_dataloader: its images differ each time they are read, so its metrics do too; take random transforms out of '
            'val_dataloader.dataset.pipeline'
        )


def _preprocess(distiller: StagewiseDistiller, loader: DataLoader) -> Tensor | None:
    """Two images as the networks get them."""
    indices = spread(_count(loader), 2)
    if not indices:
        return None
    with random_states_kept():
        batch = _batch_beside(loader, indices)
        inputs = distiller.data_preprocessor(batch, False)['inputs']
    return inputs if torch.is_tensor(inputs) else None


@torch.no_grad()
def _check_features(
    runner: Runner, distiller: StagewiseDistiller, phases: Sequence[Phase], inputs: torch.Tensor
) -> None:
    """Warn of stages in which the teacher gives the same feature for some images everywhere, which teaches nothing."""
    mimicked = sorted({stage for phase in phases for stage in phase.mimic}, key=list(distiller.stages).index)
    for name, feature in distiller.teacher_features(inputs, mimicked).items():
        if any(_is_flat(tensor) for tensor in feature):
            runner.logger.warning(
                f"stage {name}: the teacher's feature is constant over images and places, so there is nothing to follow; do "
                'model.teacher_checkpoint and the preprocessing belong to this teacher?'
            )


def _is_flat(feature: torch.Tensor) -> bool:
    feature = feature.double()
    energy = feature.square().mean()
    return bool(channel_variance(feature) <= FLAT * energy) or not bool(energy > 0)
