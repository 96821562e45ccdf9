"""A projector that stays in the student: between its last mimicked feature and the head, which is then built as the teacher's.

The student's config is rewritten once, and what is built of it is an ordinary plain model: its neck holds the projector, its head
takes the teacher's channels. Optimizer, checkpoints, export and taps need to know nothing of it; only the last stage's tap and
parameters, where the projector stands in front of a neck that is no stage, do (:mod:`.stages`).
"""

from collections.abc import Mapping, Sequence

import torch
from mmengine.config import ConfigDict
from mmengine.registry import MODELS as ROOT_MODELS
from torch import Tensor, nn

from ...errors import ConfigError, describe
from ...registry import MODELS
from ...utils.states import random_states_kept
from ..build import build_model, predicts_nothing, resolve_with_imports, without_init
from .forward import DEFAULT_SHAPE, capture

PATH = 'neck.projector'  # of the projector, in the student
# keys of a model's config that are no part of its head; all other dicts are
NOT_HEAD = ('backbone', 'neck', 'data_preprocessor', 'init_cfg', 'train_cfg', 'test_cfg', 'pretrained')


@MODELS.register_module()
class BottleneckProjector(nn.Module):
    """From the student's channels to the teacher's through a bottleneck, as in SimKD (https://arxiv.org/abs/2203.14001).

    A 1x1 convolution to ``out_channels / reduction``, a 3x3 one, and a 1x1 one to ``out_channels``, without biases, each followed
    by batch normalization and ReLU. Of vectors (N, C) and tokens (N, L, C) all three are linear layers. The levels of a feature of
    several, such as an FPN's, share these; each has norms of its own, for their scales differ, as in
    RTMDet's head (https://arxiv.org/abs/2212.07784).

    A config gives only ``type`` and ``reduction``: ``model.projector`` of :class:`~mmsskd.StagewiseDistiller` finds the rest.

    Args:
        in_channels, out_channels: The student's and the teacher's.
        reduction: By which the inner layers are narrower than ``out_channels``. 2, 4 and 8 were published with 78.08, 77.88 and
            76.73 % on CIFAR-100 (R32x4 to R8x4).
        maps: Whether features are maps (N, C, H, W).
        last_relu: Whether a ReLU ends it: where the teacher's feature is never negative.
        levels: How many tensors the feature has.

    Raises:
        ConfigError: ``reduction`` is no whole number between 1 and ``out_channels``.

    Example:
        >>> BottleneckProjector(in_channels=8, out_channels=32)(torch.zeros(2, 8, 5, 5)).shape
        torch.Size([2, 32, 5, 5])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        reduction: int = 2,
        maps: bool = True,
        last_relu: bool = True,
        levels: int = 1,
    ):
        super().__init__()
        if isinstance(reduction, bool) or not isinstance(reduction, int) or not 1 <= reduction <= out_channels:
            raise ConfigError(
                f'model.projector.reduction must be a whole number from 1 to {out_channels}, found {reduction!r}'
            )
        inner = out_channels // reduction
        layers: list[nn.Module] = []
        for before, after, size in ((in_channels, inner, 1), (inner, inner, 3), (inner, out_channels, 1)):
            if maps:
                layers.append(nn.Conv2d(before, after, size, padding=size // 2, bias=False))
            else:
                layers.append(nn.Linear(before, after, bias=False))
            norms = [nn.BatchNorm2d(after) if maps else LastNorm(after) for _ in range(levels)]
            layers += [nn.ModuleList(norms) if levels > 1 else norms[0], nn.ReLU(inplace=True)]
        self.layers = nn.Sequential(*(layers if last_relu else layers[:-1]))

    def forward(self, feature: Tensor | Sequence[Tensor]) -> Tensor | tuple[Tensor, ...]:
        """The projected feature: of a tensor a tensor, of several a tuple."""
        if isinstance(feature, Tensor):
            return self._project(feature, 0)
        return tuple(self._project(tensor, level) for level, tensor in enumerate(feature))

    def _project(self, tensor: Tensor, level: int) -> Tensor:
        for layer in self.layers:
            tensor = (layer[level] if isinstance(layer, nn.ModuleList) else layer)(tensor)
        return tensor


class LastNorm(nn.Module):
    """Batch normalization of vectors (N, C) and tokens (N, L, C); around the layer, which a conversion to SyncBN replaces."""

    def __init__(self, channels: int):
        super().__init__()
        self.bn = nn.BatchNorm1d(channels)

    def forward(self, feature: Tensor) -> Tensor:
        return self.bn(feature.flatten(0, -2)).reshape(feature.shape)


def channels(shape: tuple[int, ...]) -> int:
    """Number of channels of a feature of ``shape`` without its batch dimension: (C, H, W), (L, C) or (C,)."""
    return shape[0] if len(shape) == 3 else shape[-1]


class InFront:
    """A neck that projects what it gets."""

    def forward(self, inputs, *args, **kwargs):
        return super().forward(self.projector(inputs), *args, **kwargs)


class Behind:
    """A neck that projects what it gives."""

    def forward(self, *args, **kwargs):
        return self.projector(super().forward(*args, **kwargs))


@MODELS.register_module(name='ProjectedNeck')
def build_projected_neck(projector: dict, neck: dict | None = None, in_front: bool = True) -> nn.Module:
    """Build ``neck`` with a projector in it, as its module ``projector``; its own weights keep their names.

    Args:
        projector: Config.
        neck: Config; None: there is nothing but the projector.
        in_front: Project what the neck gets, else what it gives.
    """
    built = nn.Identity() if neck is None else ROOT_MODELS.build(neck)
    built.projector = ROOT_MODELS.build(projector)
    where = InFront if in_front else Behind
    built.__class__ = type(f'Projected{type(built).__name__}', (where, type(built)), {})
    return built


def resolve_student(model: Mapping, data_preprocessor: dict | None = None) -> tuple[ConfigDict, list[dict | None]]:
    """The student's model config, with ``model.projector`` in it where that is set.

    Args:
        model: Config of a :class:`~mmsskd.StagewiseDistiller`.
        data_preprocessor: Replaces the student's own, see :func:`~mmsskd.distill.build.resolve_model_cfg`.

    Returns:
        The config, and the ``custom_imports`` of the files that it was made of.

    Raises:
        ConfigError: The config of student or teacher cannot be read, or the projector has no place between the two.
    """
    student, imports = resolve_with_imports(model['student'], 'student', data_preprocessor)
    if model.get('projector') is None:
        return student, [imports]
    teacher, more = resolve_with_imports(model['teacher'], 'teacher')
    return _with_projector(student, teacher, model), [imports, more]


def _with_projector(student: ConfigDict, teacher: ConfigDict, model: Mapping) -> ConfigDict:
    """The config of ``student`` with the projector in its neck, and with the head of ``teacher``."""
    cfg = model['projector']
    if not isinstance(cfg, Mapping) or 'type' not in cfg:
        raise ConfigError(
            f"model.projector must be a config such as dict(type='mmsskd.BottleneckProjector', reduction=2), found {cfg!r}"
        )
    models = dict(student=student, teacher=teacher)
    shape = model.get('input_shape') or DEFAULT_SHAPE
    with random_states_kept():
        built = {who: build_model(without_init(each), f'model.{who}').eval() for who, each in models.items()}
        reason = predicts_nothing(built['teacher'])
        if reason:
            raise ConfigError(f"model.projector: the teacher's head follows it, but {reason}; remove model.projector")
        in_front = _stands_in_front(built['student'], model.get('stages'))
        part = 'backbone' if in_front else 'neck'
        own, theirs = (_output(each, part, shape, who) for who, each in built.items())
    neck = models['teacher' if in_front else 'student'].get('neck')
    if isinstance(neck, (list, tuple)):
        raise ConfigError(f'model.projector: a neck that is a list cannot hold a projector, found {len(neck)} necks')
    heads = {
        who: {key for key, value in each.items() if isinstance(value, Mapping) and key not in NOT_HEAD}
        for who, each in models.items()
    }
    if heads['student'] != heads['teacher']:
        found = ' and '.join(f'{", ".join(sorted(keys)) or "none"} of the {who}' for who, keys in heads.items())
        raise ConfigError(
            "model.projector: the teacher's head follows it, so both models must have the same parts after the neck; "
            f'found {found}. Take models of one kind, or remove model.projector'
        )
    taken: dict = {key: teacher[key] for key in sorted(heads['teacher'])}
    if teacher.get('_scope_') != student.get('_scope_'):  # types without a package are those of the teacher's
        for each in [*taken.values(), neck if in_front else None]:
            if each and teacher.get('_scope_'):
                each.setdefault('_scope_', teacher._scope_)
    projector = dict(
        cfg,
        in_channels=_channels(own, 'student'),
        out_channels=_channels(theirs, 'teacher'),
        maps=own[0].ndim == 4,
        last_relu=all(bool((tensor >= 0).all()) for tensor in theirs),
        levels=len(own),
    )
    taken['neck'] = dict(type='mmsskd.ProjectedNeck', in_front=in_front, projector=projector, neck=neck)
    for key, value in taken.items():
        student[key] = value  # `update` would merge
    return student


def _stands_in_front(student: nn.Module, stages: Sequence[str] | None) -> bool:
    """Whether the projector stands between backbone and neck; else after the neck, which is then the last stage.

    Raises:
        ConfigError: The last stage is neither in the backbone nor the neck.
    """
    last = [*(stages or ['backbone', *getattr(student, 'extra_stages', ())])][-1]
    root = last.split('.')[0]
    if last != 'neck' and root != 'backbone' and root in dict(student.named_children()):
        raise ConfigError(
            f'model.projector stands after the backbone or the whole neck, but the last stage is {last!r}; end model.stages in '
            "the backbone or in 'neck', or remove model.projector"
        )
    return last != 'neck'


def _output(model: nn.Module, part: str, shape: Sequence[int], who: str) -> tuple[Tensor, ...]:
    """The tensors that backbone or neck of ``model`` gives for an image; in front of a neck only one can be projected."""
    if not isinstance(getattr(model, part, None), nn.Module):
        raise ConfigError(f'model.projector stands after the {part} of both models, but the {who} has none')
    image = torch.randn(1, *shape, generator=torch.Generator().manual_seed(0))
    try:
        with torch.no_grad(), capture(model, [part]) as outputs:
            model.extract_feat(image)
    except Exception as error:
        raise ConfigError(
            f'model.{who} does not run on an input of shape {tuple(image.shape)}: {describe(error)}\n  Set model.input_shape to '
            '(channels, height, width) of your images.'
        ) from error
    tensors = outputs[part]
    if part == 'backbone' and len(tensors) > 1:
        raise ConfigError(
            f'model.projector: the backbone of the {who} gives {len(tensors)} features, and only one can be projected in front of '
            "the neck; end model.stages in 'neck' to project what that gives"
        )
    return tensors


def _channels(tensors: Sequence[Tensor], who: str) -> int:
    """The number of channels of all levels of a feature."""
    found = {channels(tuple(tensor.shape[1:])) for tensor in tensors}
    if len(found) != 1:
        raise ConfigError(
            f'model.projector: its weights are shared by the levels of the feature, which have different channels in the {who}: '
            f'{", ".join(map(str, sorted(found)))}'
        )
    return found.pop()
