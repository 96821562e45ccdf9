"""Samples: what a few labels and images of each set, and the teacher's features of them, say before training.

A set of COCO's size is never read whole: labels and names of files are those of the list, a few images go through the pipeline.
"""

import hashlib
import os
import time
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from mmengine.dataset import BaseDataset
from mmengine.runner import Runner
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ...errors import ConfigError, explaining
from ...utils.states import random_states_kept
from ..distiller import StagewiseDistiller
from ..losses import channel_variance
from ..phases import Phase, loader_keys
from .data_checks import count_classes, head_classes, plain_datasets, spread
from .dry_run import batch_beside, count_images
from .runner_state import seed_everything

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
    indices = spread(count_images(loader), most)
    if not indices:
        return []
    with explaining(f'{key}: one of the images {list(indices)} cannot be read'), random_states_kept():
        batch = batch_beside(loader, indices)
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
    indices = spread(count_images(loader), 2)
    if not indices:
        return None
    with random_states_kept():
        batch = batch_beside(loader, indices)
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
