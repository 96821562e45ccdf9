"""A teacher of another library: timm, torchvision, transformers, a torch.hub folder, or anything that gives an ``nn.Module``."""

import inspect
from collections.abc import Callable, Mapping
from importlib import import_module

import torch
from mmengine.model import BaseModel
from mmengine.utils import get_object_from_string
from torch import Tensor, nn

from ..errors import ConfigError, candidates, check_keys, describe
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

    It gets images as its own pipeline makes them (see :mod:`~mmsskd.distill.teacher_input`), whatever the student's look like.
    It has no head that the student's task could use, so its metric is skipped.

    Args:
        build: ``'timm:NAME'``, ``'torchvision:NAME'``, ``'transformers:NAME'`` (a model's name, its folder, or with ``pretrained``
            unset a kind of model such as ``dinov2``), ``'torch.hub:FOLDER:NAME'`` with a local clone, or a callable or its
            dotted path. Imported only when it is used.
        pretrained: True: weights that the library brings. A file or URL: loaded strictly, under the network's own names. False:
            random, for a ``teacher_checkpoint``.
        arguments: Further arguments of what builds it, for instance ``dict(dynamic_img_size=True)`` of a timm ViT.
        normalize: ``dict(mean=..., std=...)`` of its images, as its library writes them: for images of 0 to 1, or, where a std
            is above 1, of 0 to 255; with ``channels='bgr'`` for the few that are not RGB. None: what timm or torchvision
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
        arguments = dict(arguments or {})
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
        if image_channels not in (*CHANNELS, 'gray', None):
            raise ConfigError(f"{KEY}.image_channels must be 'rgb', 'bgr' or 'gray', found {image_channels!r}")
        self.image_channels = image_channels
        self.size = _size(size)
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
    try:
        if kind in LIBRARIES and name:
            network, known = LIBRARIES[kind](name, pretrained, arguments)
        elif isinstance(build, str) and (name or '.' not in build):
            raise ConfigError(f'{KEY}.build must be {FORMS}; found {build!r}. {candidates(kind, LIBRARIES)}')
        else:
            function = get_object_from_string(build) if isinstance(build, str) else build
            if not callable(function):
                raise ConfigError(f'{KEY}.build: there is no callable {build!r}; or {FORMS}')
            network = _call(function, pretrained, arguments)
    except ConfigError:
        raise
    except Exception as error:
        raise ConfigError(f'{KEY}.build: {build!r} cannot be built: {describe(error)}') from error
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
    kinds = library.models.auto.configuration_auto.CONFIG_MAPPING
    config = (
        library.AutoConfig.for_model(name, **arguments)
        if name in kinds
        else library.AutoConfig.from_pretrained(name, **arguments)
    )
    return library.AutoModel.from_config(config), None if name in kinds else _processor(library, name)


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


def _call(function: Callable, pretrained: bool, arguments: dict) -> nn.Module:
    """Call what builds a network; ``pretrained`` is said where it wants to know."""
    said = dict(pretrained=pretrained) if 'pretrained' in inspect.signature(function).parameters else {}
    return function(**(said | arguments))


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
    unit = 1.0 if max(values['std']) > 1 else 255.0
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
