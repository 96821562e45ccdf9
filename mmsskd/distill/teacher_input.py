"""A batch as the teacher's own pipeline makes it, from one made for the student: normalization, channels, padding, image size."""

import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.logging import print_log
from torch import Tensor, nn

from ..errors import ConfigError


@dataclass(frozen=True)
class _Format:
    """Images as a data preprocessor leaves them: ``(image - mean) / std``, and ``pad`` beside them."""

    mean: Tensor
    std: Tensor
    reverses: bool
    pad: float
    divisor: int

    @classmethod
    def of(cls, preprocessor: nn.Module) -> '_Format':
        def constant(name, default):
            value = getattr(preprocessor, name, None)
            return (
                torch.full((1,), default) if value is None else torch.as_tensor(value).detach().cpu().flatten().double()
            )

        keys = ('to_rgb', 'bgr_to_rgb', 'rgb_to_bgr', '_channel_conversion')
        return cls(
            mean=constant('mean', 0.0).double(),
            std=constant('std', 1.0).double(),
            reverses=any(getattr(preprocessor, key, False) for key in keys),
            pad=float(getattr(preprocessor, 'pad_value', 0) or 0),
            divisor=getattr(preprocessor, 'pad_size_divisor', 1),
        )


class TeacherInput(nn.Module):
    """Turn a batch as the run's data preprocessor gives it into one as the teacher's own would give it.

    Two normalizations differ by a scale and a shift of each channel, which are exact up to rounding. Padding is not part of an
    image: where scale and shift do not make the one padding into the other, the pixels beside each image are set to the
    teacher's; which these are follows from ``img_shape`` of the batch's data samples.

    Args:
        run: The data preprocessor that makes the batches.
        own: The teacher's, whose settings are read; it is not run.
        reverse: Whether the order of the channels is reversed.
        size: Height and width to which the images are resized (bilinear, antialiased), or their factor; None: as they are.
        repeat: How often the only channel of gray images is repeated.

    Example:
        >>> from mmengine.model import ImgDataPreprocessor
        >>> run, own = ImgDataPreprocessor(mean=[100.0], std=[50.0]), ImgDataPreprocessor(mean=[0.0], std=[255.0])
        >>> round(TeacherInput(run, own)(torch.full((1, 1, 1, 1), 2.0)).item() * 255)
        200
    """

    def __init__(
        self,
        run: nn.Module,
        own: nn.Module,
        reverse: bool = False,
        size: float | tuple[int, int] | None = None,
        repeat: int = 1,
    ):
        super().__init__()
        theirs, ours = _Format.of(run), _Format.of(own)
        mean, std = (values.flip(0) if reverse else values for values in (theirs.mean, theirs.std))
        scale, shift = std / ours.std, (mean - ours.mean) / ours.std
        self.same_numbers = bool((scale == 1).all() and (shift == 0).all()) and repeat == 1
        # whether what stands beside an image must be set, because scale and shift do not make it the teacher's
        self.pads = not torch.allclose(theirs.pad * scale + shift, torch.full_like(shift, ours.pad), rtol=0, atol=1e-6)
        self.reverse, self.size, self.pad, self.own_pad = reverse, size, theirs.pad, ours.pad
        scale, shift = (values.expand(max(repeat, len(values))).float().view(-1, 1, 1) for values in (scale, shift))
        self.register_buffer('scale', scale.clone(), persistent=False)
        self.register_buffer('shift', shift.clone(), persistent=False)
        self._batch: tuple[weakref.ref, list[tuple[int, int]]] | None = None
        if self.pads:
            run.register_forward_hook(self._note)

    @property
    def changes(self) -> bool:
        """Whether a batch looks different to the teacher at all."""
        return not self.same_numbers or self.pads or self.reverse or self.size is not None

    def forward(self, images: Tensor) -> Tensor:
        """``images``: the preprocessed batch, (N, C, H, W)."""
        padding = self._padding(images)
        out = images.flip(1) if self.reverse else images
        if not self.same_numbers:
            out = out * self.scale + self.shift
        if padding is not None:
            out = torch.where(padding, self.own_pad, out)
        return out if self.size is None else _resize(out, self.image_size(images.shape[-2:]))

    def image_size(self, image: Sequence[int]) -> tuple[int, int]:
        """Height and width of an image of the run as the teacher gets it."""
        if isinstance(self.size, tuple):
            return self.size
        height, width = (round(side * (self.size or 1)) for side in image)
        return height, width

    def _note(self, preprocessor: nn.Module, args, batch) -> None:
        """Forward hook of the run's data preprocessor: keep how large each image of the batch is without its padding."""
        shapes = [getattr(sample, 'img_shape', None) for sample in batch.get('data_samples') or ()]
        if isinstance(batch['inputs'], Tensor) and len(shapes) == len(batch['inputs']) and None not in shapes:
            self._batch = weakref.ref(batch['inputs']), [tuple(shape[:2]) for shape in shapes]

    def _padding(self, images: Tensor) -> Tensor | None:
        """Mask (N, 1, H, W) of the pixels beside each image; None where nothing is known of this batch, or nothing to do."""
        if self._batch is None or self._batch[0]() is not images:
            return None
        height, width = torch.tensor(self._batch[1], device=images.device).view(-1, 2, 1, 1, 1).unbind(1)
        rows, columns = (torch.arange(n, device=images.device) for n in images.shape[-2:])
        beside = (rows.view(-1, 1) >= height) | (columns >= width)
        return beside & (images == self.pad).all(1, keepdim=True)  # a batch augment may have put another image there


def _resize(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize a batch; in the autograd graph the result is the image itself, so that it is not taken for a layer of the network."""
    if tuple(images.shape[-2:]) == size:
        return images
    out = F.interpolate(images.detach(), size=size, mode='bilinear', antialias=True, align_corners=False)
    return out.requires_grad_() * 1 if images.requires_grad else out


def image_of(teacher: nn.Module, image: Sequence[int]) -> Sequence[int]:
    """Height and width of an image of the run as the backbone of ``teacher`` gets it."""
    own = getattr(teacher, 'own_input', None)
    return image if own is None else own.image_size(image)


def give_own_input(teacher: nn.Module, teacher_cfg: Mapping, student: nn.Module) -> None:
    """Make ``teacher`` take batches of the run: its backbone gets each image as its own pipeline would have made it.

    A teacher config without a ``data_preprocessor`` of its own expects what the student gets.

    Args:
        teacher: Changed in place: a hook in front of its backbone.
        teacher_cfg: Its config.
        student: Whose data preprocessor makes the batches of the run.

    Raises:
        ConfigError: The order of the channels of the run's images is not known.
    """
    wanted: str | None = getattr(teacher, 'channels', None)  # of an external teacher
    size: Any = getattr(teacher, 'size', None)
    if wanted is None and not teacher_cfg.get('data_preprocessor'):
        return
    own: Any = teacher.data_preprocessor
    run: Any = student.data_preprocessor
    reverse, repeat = _Format.of(run).reverses != _Format.of(own).reverses, 1
    if wanted is not None:
        order = _order_of_run(run, getattr(teacher, 'image_channels', None))
        reverse = order not in (wanted, 'gray')
        repeat = _in_channels(teacher) if order == 'gray' else 1
    see = TeacherInput(run, own, reverse, size, repeat)
    if not see.changes:
        return
    teacher.add_module('own_input', see)  # moves with it to a device
    teacher.backbone.register_forward_pre_hook(lambda module, args: (see(args[0]), *args[1:]))
    print_log(
        'the teacher sees each batch as its own pipeline makes it: ' + ', '.join(_say(see, run, own)), logger='current'
    )


def _order_of_run(run: nn.Module, stated: str | None) -> str:
    """``'rgb'``, ``'bgr'`` or ``'gray'``: the order of the channels in the batches of a data preprocessor."""
    if stated == 'gray':
        return 'gray'
    if any(getattr(run, key, False) for key in ('to_rgb', 'bgr_to_rgb')):
        return 'rgb'
    if getattr(run, 'rgb_to_bgr', False):
        return 'bgr'
    if getattr(run, '_channel_conversion', False):  # of mmengine, which does not keep in which direction: it reads BGR
        return 'rgb'
    if stated is None:
        raise ConfigError(
            "model.teacher.image_channels is not set, and the run's data_preprocessor does not say whether its images are RGB or "
            "BGR (it has neither to_rgb nor bgr_to_rgb). Set image_channels='bgr' for what OpenMMLab's readers give, 'rgb' for "
            "data sets that hold RGB (CIFAR in mmpretrain), 'gray' for images of one channel."
        )
    return stated


def _in_channels(model: nn.Module) -> int:
    """Channels of the images that a network takes: those of its first convolution."""
    layers = (layer for layer in model.modules() if isinstance(layer, nn.modules.conv._ConvNd))
    return next((layer.in_channels for layer in layers), 1)


def _say(see: TeacherInput, run: nn.Module, own: nn.Module) -> Sequence[str]:
    """The differences between the batch of the run and that of the teacher, for the log."""
    theirs, ours = _Format.of(run), _Format.of(own)
    said = []
    if not see.same_numbers:
        own_numbers, run_numbers = (f'mean {_show(each.mean)} and std {_show(each.std)}' for each in (ours, theirs))
        said.append(f'{own_numbers} in place of {run_numbers}')
    if see.reverse:
        said.append('channels reversed')
    if see.pads:
        said.append(f'{ours.pad:g} in what is padded, where data samples have img_shape')
    if theirs.divisor % ours.divisor:
        said.append(
            f'but padded to multiples of {theirs.divisor}, its own pipeline pads to multiples of {ours.divisor}'
        )
    if see.size is not None:
        said.append(
            f'resized {f"by {see.size:g}" if isinstance(see.size, float) else f"to {see.size[0]}x{see.size[1]}"}'
        )
    return said


def _show(values: Tensor) -> str:
    return '/'.join(f'{value:.6g}' for value in values.tolist())
