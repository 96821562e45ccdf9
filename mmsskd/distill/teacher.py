"""The teacher: a network of another library (timm, torchvision, transformers, torch.hub, any other ``nn.Module``), and, for each
teacher, the batch as its own pipeline makes it from one made for the student: normalization, channels, padding, size.
"""

import inspect
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.logging import print_log
from mmengine.model import BaseModel
from mmengine.utils import get_object_from_string
from torch import Tensor, nn

from ..errors import ConfigError, candidates, check_keys, explaining
from ..registry import MODELS

KEY = 'model.teacher'
FORMS = (
    "'timm:NAME', 'torchvision:NAME', 'transformers:NAME' (or its folder, or a kind such as dinov2), 'torch.hub:FOLDER:NAME', "
    "or 'package.module.function'"
)
CHANNELS = ('rgb', 'bgr')


@MODELS.register_module()
class ExternalTeacher(BaseModel):
    """A network of another library as a teacher: its features teach, at taps named as its own modules are.

    It gets images as its own pipeline makes them (see :class:`TeacherInput`), whatever the student's look like.
    It has no head that the student's task could use, so its metric is skipped.

    Args:
        build: ``'timm:NAME'``, ``'torchvision:NAME'``, ``'transformers:NAME'`` (a model's name, its folder, or with ``pretrained``
            unset a kind of model such as ``dinov2``), ``'torch.hub:FOLDER:NAME'`` with a local clone, or a callable or its
            dotted path. Imported only when it is used.
        pretrained: True: weights that the library brings. A file or URL: loaded strictly, under the network's own names. False:
            random, for a ``teacher_checkpoint``.
        arguments: Further arguments of what builds it, for instance ``dict(dynamic_img_size=True)`` of a timm ViT.
        normalize: ``dict(mean=..., std=...)`` of its images, as its library writes them: for images of 0 to 1, or, where a mean
            or a std is above 1, of 0 to 255; with ``channels='bgr'`` for the few that are not RGB. None: what timm or torchvision
            says, or the folder of a model of transformers.
        size: Height and width of its images, or one number for both; a float scales the student's, so that with 0.875 a patch of
            14 pixels lies on a stride of 16. None: the student's.
        image_channels: Order of the channels of the run's images where its data preprocessor does not convert them: ``'bgr'``,
            ``'rgb'`` or ``'gray'``.

    Example:
        >>> teacher = ExternalTeacher('torchvision:resnet18', size=64)
        >>> [tuple(each.shape) for each in teacher.extract_feat(torch.zeros(1, 3, 64, 64))]
        [(1000,)]
        >>> teacher.data_preprocessor.mean.flatten().tolist()  # torchvision says so
        [123.67500305175781, 116.27999877929688, 103.52999877929688]
    """

    head = None
    classifies_in_backbone = True

    def __init__(
        self,
        build: str | Callable[..., nn.Module],
        pretrained: bool | str = False,
        arguments: Mapping | None = None,
        normalize: Mapping | None = None,
        size: float | tuple[int, int] | None = None,
        image_channels: str | None = None,
    ):
        arguments, pixels = dict(arguments or {}), _size(size)  # before weights are fetched
        if image_channels not in (*CHANNELS, 'gray', None):
            raise ConfigError(f"{KEY}.image_channels must be 'rgb', 'bgr' or 'gray', found {image_channels!r}")
        network, known = _build(build, pretrained is True, arguments)
        normalize = known if normalize is None else normalize
        if normalize is None:
            raise ConfigError(
                f'{KEY}.normalize is not set, and nothing says how the images of {build!r} are normalized; set '
                'normalize=dict(mean=[...], std=[...]) to what it was trained with'
            )
        mean, std, channels = _normalization(normalize)
        super().__init__(data_preprocessor=dict(type='mmengine.ImgDataPreprocessor', mean=mean, std=std))
        self.channels = channels
        self.image_channels, self.size = image_channels, pixels
        self.backbone = network

    def extract_feat(self, inputs: Tensor):
        """Run the network. ``inputs``: images as it was trained with, (N, C, H, W)."""
        return self.backbone(inputs)

    def forward(self, inputs: Tensor, data_samples: list | None = None, mode: str = 'tensor'):
        """Run the network, whatever ``mode`` is."""
        return self.extract_feat(inputs)

    def init_weights(self) -> None:
        """Leave the network as its library built it."""

    def adopt_state_dict(self, state: dict) -> dict:
        """Names of the network's own, without ``backbone.``, are as good."""
        own = set(self.backbone.state_dict())
        return {f'backbone.{name}' if name in own else name: value for name, value in state.items()}


def _build(build, pretrained: bool, arguments: dict) -> tuple[nn.Module, dict | None]:
    """The network, and what its library says about the normalization of its images, if anything."""
    known: dict | None = None
    kind, _, name = build.partition(':') if isinstance(build, str) else ('', '', build)
    with explaining(f'{KEY}.build: {build!r} cannot be built'):
        if kind in LIBRARIES and name:
            network, known = LIBRARIES[kind](name, pretrained, arguments)
        elif isinstance(build, str) and (name or '.' not in build):
            raise ConfigError(f'{KEY}.build must be {FORMS}; found {build!r}. {candidates(kind, LIBRARIES)}')
        else:
            function = get_object_from_string(build) if isinstance(build, str) else build
            if not callable(function):
                raise ConfigError(f'{KEY}.build: there is no callable {build!r}; or {FORMS}')
            wants = 'pretrained' in inspect.signature(function).parameters
            network = function(**((dict(pretrained=pretrained) if wants else {}) | arguments))
    if not isinstance(network, nn.Module):
        raise ConfigError(f'{KEY}.build: {build!r} gave {type(network).__name__}, not an nn.Module')
    return network, known


def _import(module: str):
    """A library that only some teachers need."""
    try:
        return import_module(module)
    except ImportError as error:
        raise ConfigError(f'{KEY}.build needs the package {module}: pip install {module} ({error})') from error


def _timm(name: str, pretrained: bool, arguments: dict):
    network = _import('timm').create_model(name, pretrained=pretrained, **arguments)
    says = getattr(network, 'pretrained_cfg', None) or {}
    return network, dict(mean=says['mean'], std=says['std']) if {'mean', 'std'} <= set(says) else None


def _torchvision(name: str, pretrained: bool, arguments: dict):
    models = _import('torchvision').models
    network = models.get_model(name, weights='DEFAULT' if pretrained else None, **arguments)
    says = models.get_model_weights(name).DEFAULT.transforms()
    return network, dict(mean=says.mean, std=says.std) if hasattr(says, 'mean') else None


def _transformers(name: str, pretrained: bool, arguments: dict):
    library = _import('transformers')
    if pretrained:
        return library.AutoModel.from_pretrained(name, **arguments), _processor(library, name)
    is_kind = name in library.models.auto.configuration_auto.CONFIG_MAPPING
    read = library.AutoConfig.for_model if is_kind else library.AutoConfig.from_pretrained
    return library.AutoModel.from_config(read(name, **arguments)), None if is_kind else _processor(library, name)


def _processor(library, name: str) -> dict | None:
    """Normalization of the images by the file beside the weights of a model of transformers, if there is one."""
    try:
        says = library.AutoImageProcessor.from_pretrained(name)
    except Exception:  # there is none, or one of a kind that this version does not know
        return None
    return dict(mean=says.image_mean, std=says.image_std) if getattr(says, 'image_mean', None) else None


def _hub(name: str, pretrained: bool, arguments: dict):
    folder, _, entry = name.rpartition(':')
    if not folder:
        raise ConfigError(f"{KEY}.build must be 'torch.hub:FOLDER:NAME', found 'torch.hub:{name}'")
    return torch.hub.load(folder, entry, source='local', pretrained=pretrained, **arguments), None


LIBRARIES = {'timm': _timm, 'torchvision': _torchvision, 'transformers': _transformers, 'torch.hub': _hub}


def _normalization(normalize: Mapping) -> tuple[list[float], list[float], str]:
    """Mean and standard deviation for images of 0 to 255, and the order of the channels."""
    check_keys(normalize, ('mean', 'std', 'channels'), f'{KEY}.normalize')
    channels = normalize.get('channels', 'rgb')
    if channels not in CHANNELS:
        raise ConfigError(f"{KEY}.normalize.channels must be 'rgb' or 'bgr', found {channels!r}")
    values = {}
    for key in ('mean', 'std'):
        value = normalize.get(key)
        value = list(value) if isinstance(value, (list, tuple)) else [value]
        if len(value) not in (1, 3) or not all(isinstance(number, (int, float)) for number in value):
            raise ConfigError(f'{KEY}.normalize.{key} must be one number or three, found {normalize.get(key)!r}')
        values[key] = value
    if len(values['mean']) != len(values['std']) or not all(number > 0 for number in values['std']):
        raise ConfigError(
            f'{KEY}.normalize needs as many means as standard deviations above 0, found {dict(normalize)}'
        )
    mean, std = max(values['mean']), max(values['std'])
    if (mean > 1 and std < 1) or (0 < mean <= 1 < std):
        raise ConfigError(
            f'{KEY}.normalize has a mean of {mean:g} and a std of {std:g}, of which one is for images of 0 to 1 and the other for '
            'images of 0 to 255; write both for the same'
        )
    unit = 1.0 if mean > 1 or std > 1 else 255.0  # a std of 1 beside means above 1 is that of Caffe's weights
    return [unit * number for number in values['mean']], [unit * number for number in values['std']], channels


def _size(size) -> float | tuple[int, int] | None:
    if size is None or (isinstance(size, float) and size > 0):
        return size
    pair = (size, size) if isinstance(size, int) and not isinstance(size, bool) else size
    if not isinstance(pair, (list, tuple)) or len(pair) != 2 or not all(isinstance(n, int) and n > 0 for n in pair):
        raise ConfigError(
            f'{KEY}.size must be pixels, (height, width), or a float that scales the images; found {size!r}'
        )
    return tuple(pair)


# -- a batch of the run as the teacher's own pipeline makes it ---------------------------------------------------------


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
