from collections.abc import Sequence

import numpy as np
import torch
from mmengine.registry import DefaultScope
from mmpretrain.registry import DATASETS as MMPRETRAIN
from mmpretrain.structures import DataSample
from torch import Tensor
from torch.utils.data import Dataset, get_worker_info

from ..errors import ConfigError
from ..registry import DATASETS

FIXED = ('LoadImageFromFile', 'Resize', 'ResizeEdge', 'CenterCrop')  # made once for each image
DRAWN = ('RandomCrop', 'RandomFlip')  # made for a whole batch


@DATASETS.register_module()
class ResidentImages(Dataset):
    """Images that stay in memory as uint8, on the GPU if there is one, and come as whole batches, cropped and flipped there.

    For sets that fit, such as CIFAR (50,000 images take 240 MB with their padding): where networks are small, reading, cropping
    and collating one image after the other takes longer than training on them. An existing data set becomes one by two keys::

        train_dataloader = dict(dataset=dict(type='mmsskd.ResidentImages', of='CIFAR100'))

    Crops and flips are drawn from the same distribution as by the pipeline, in another order, from torch's random state alone.
    Only in this process: ``num_workers`` is 0, which ``tools/train.py`` sets, as well as ``pin_memory``.

    Args:
        of: Type of the data set whose images these are. It is built with its own arguments, ``pipeline`` included, in which may
            stand: ``LoadImageFromFile``, ``Resize``, ``ResizeEdge``, ``CenterCrop``, then ``RandomCrop`` (with constant padding)
            and ``RandomFlip`` (horizontal), then ``PackInputs``.
        device: Where the images are kept. None: on the GPU, or on the CPU where there is none.
        **kwargs: Arguments of that data set.

    Raises:
        ConfigError: A transform that is not known; images of different sizes, or too many for the memory.

    Example:
        >>> pipeline = [dict(type='RandomCrop', crop_size=8, padding=1), dict(type='PackInputs')]
        >>> digits = ResidentImages(of='mmsskd.Digits', pipeline=pipeline, device='cpu')
        >>> digits.__getitems__([0, 5, 7])['inputs'].shape
        torch.Size([3, 1, 8, 8])
    """

    def __init__(self, of: str, device: str | None = None, **kwargs):
        fixed, drawn = _split(kwargs.get('pipeline') or [])
        with DefaultScope.overwrite_default_scope('mmpretrain'):  # whose transforms these are
            self.dataset = MMPRETRAIN.build(dict(kwargs, type=of, pipeline=[*fixed, dict(type='PackInputs')]))
        self.device = torch.device(device or ('cuda' if torch.cuda.is_available() else 'cpu'))
        self.crop, self.flip = _crop(drawn.get('RandomCrop')), _flip(drawn.get('RandomFlip'))
        self.images: Tensor | None = None
        self.labels: list = []

    @property
    def metainfo(self) -> dict:
        """That of the data set, with the names of its classes."""
        return self.dataset.metainfo

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> dict:
        batch = self.__getitems__([index])
        return dict(inputs=batch['inputs'][0], data_samples=batch['data_samples'][0])

    def __getitems__(self, indices: Sequence[int]) -> dict:
        """A whole batch: ``inputs``, uint8 (N, C, H, W) on the device, and ``data_samples`` with the labels.

        torch's loader asks for it in place of one sample after the other.
        """
        if get_worker_info() is not None:
            raise ConfigError('mmsskd.ResidentImages needs no workers, and cannot be used in one: set num_workers=0')
        if self.images is None:
            self._load()
        where = torch.as_tensor(indices).to(self.device, non_blocking=True)
        samples = [DataSample() for _ in indices]
        for sample, index in zip(samples, indices, strict=True):
            if self.labels[index] is not None:
                sample.set_gt_label(self.labels[index])
        return dict(inputs=self._draw(where), data_samples=samples)

    def _draw(self, where: Tensor) -> Tensor:
        """The images at ``where``, (N,), each with a crop and a flip of its own."""
        height, width = self.images.shape[2:]
        if self.crop is None and not self.flip:
            return self.images[where]
        size = (height, width) if self.crop is None else self.crop['size']
        top, left = (torch.randint(whole - part + 1, where.shape) for whole, part in zip((height, width), size))
        flipped = torch.rand(where.shape) < self.flip
        rows = (top[:, None] + torch.arange(size[0])).to(self.device, non_blocking=True)
        columns = left[:, None] + torch.arange(size[1])
        columns = torch.where(flipped[:, None], columns.flip(1), columns).to(self.device, non_blocking=True)
        images = self.images[where[:, None, None], :, rows[:, :, None], columns[:, None, :]]  # (N, H, W, C)
        images = images.permute(0, 3, 1, 2).contiguous()
        return images.view(
            images.shape
        )  # of one channel the strides are still those of channels-last, which models would follow

    def _load(self) -> None:
        """Read all images, with the padding of their crops around them."""
        samples = [self.dataset[i] for i in range(len(self.dataset))]
        shapes = {tuple(sample['inputs'].shape) for sample in samples}
        kinds = {sample['inputs'].dtype for sample in samples}
        if len(shapes) != 1 or kinds != {torch.uint8}:
            raise ConfigError(
                f'mmsskd.ResidentImages: the images of {type(self.dataset).__name__} must be uint8 and of one size, found '
                f'{sorted(shapes)[:3]} of {sorted(map(str, kinds))}; put dict(type="Resize", scale=...) into its pipeline'
            )
        self.labels = [sample['data_samples'].get('gt_label') for sample in samples]
        images = torch.stack([sample['inputs'] for sample in samples])
        if self.crop is not None:
            images = self._padded(images)
        try:
            self.images = images.to(self.device)
        except torch.OutOfMemoryError as error:
            raise ConfigError(
                f'mmsskd.ResidentImages: {images.numel() / 2**20:.0f} MiB of images do not fit on the GPU; set '
                "device='cpu', or use the data set itself"
            ) from error

    def _padded(self, images: Tensor) -> Tensor:
        (count, channels, height, width), (left, top, right, bottom) = images.shape, self.crop['padding']
        padded = images.new_empty(count, channels, top + height + bottom, left + width + right)
        padded[:] = torch.as_tensor(np.broadcast_to(self.crop['value'], channels).copy())[:, None, None]
        padded[:, :, top : top + height, left : left + width] = images
        for part, whole, name in zip(self.crop['size'], padded.shape[2:], ('height', 'width')):
            if part > whole:
                raise ConfigError(f'RandomCrop.crop_size: {name} {part}, but the padded images have {whole}')
        return padded


def _split(pipeline: Sequence[dict]) -> tuple[list[dict], dict[str, dict]]:
    """Split into transforms made once for each image and, by name, those drawn for each batch."""
    types = [transform['type'] for transform in pipeline]
    names = [getattr(kind, '__name__', str(kind)).split('.')[-1] for kind in types]
    unknown = [name for name in names if name not in (*FIXED, *DRAWN, 'PackInputs')]
    if unknown:
        raise ConfigError(
            f'mmsskd.ResidentImages: pipeline has {unknown}, which it cannot do for whole batches; it can do '
            f'{[*FIXED, *DRAWN]}. Remove them, or use the data set itself'
        )
    first = next((i for i, name in enumerate(names) if name not in FIXED), len(names))
    if names[first:] != [name for name in (*DRAWN, 'PackInputs') if name in names]:
        raise ConfigError(
            f'mmsskd.ResidentImages: pipeline must be {list(FIXED)}, then RandomCrop and RandomFlip, each at most once, then '
            f'PackInputs; found {names}, an order that cannot be split'
        )
    return list(pipeline[:first]), dict(zip(names[first:], pipeline[first:]))


def _crop(cfg: dict | None) -> dict | None:
    """Size (height, width), padding (left, top, right, bottom) and value of a ``RandomCrop``; None without one."""
    if cfg is None:
        return None
    if cfg.get('padding_mode', 'constant') != 'constant' or cfg.get('pad_if_needed'):
        raise ConfigError(f"mmsskd.ResidentImages: RandomCrop must have padding_mode='constant', found {dict(cfg)}")
    size, padding = cfg['crop_size'], cfg.get('padding') or 0
    padding = (padding,) if isinstance(padding, int) else tuple(padding)
    return dict(
        size=(size, size) if isinstance(size, int) else tuple(size),
        padding=padding * (4 // len(padding)),
        value=np.asarray(cfg.get('pad_val', 0), dtype=np.uint8),
    )


def _flip(cfg: dict | None) -> float:
    """Probability with which a ``RandomFlip`` flips, 0 without one."""
    if cfg is None:
        return 0.0
    if cfg.get('direction', 'horizontal') != 'horizontal' or not isinstance(cfg.get('prob'), (int, float)):
        raise ConfigError(f'mmsskd.ResidentImages: RandomFlip must be horizontal with one prob, found {dict(cfg)}')
    return float(cfg['prob'])
