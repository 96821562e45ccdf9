"""Pairing of two networks: which stage follows which, the adapter between their features, and what the student itself freezes."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields

import torch
import torch.nn.functional as F
from mmengine.logging import print_log
from mmengine.utils.dl_utils.parrots_wrapper import _BatchNorm, _InstanceNorm
from torch import Tensor, nn

from ...errors import ConfigError
from .stages import Stage, find_stages


@dataclass(frozen=True, kw_only=True)
class Pairing:
    """How two networks are cut and paired: the options of the model that say so, under the same names.

    Attributes:
        stages: Names of the student's stages; None: its resolution stages, see
            :func:`~mmsskd.distill.network.stages.find_stages`.
        teacher_stages: Names of the teacher's; None: ``stages``.
        input_shape: (channels, height, width) of an image.
        resize: Allow maps of different height and width, see :func:`match_size`.
        adapter_norm: Put batch normalization after the adapters.

    Example:
        >>> Pairing(stages=['layer1'], input_shape=(3, 32, 32)).adapter_norm
        True
    """

    stages: Sequence[str] | None = None
    teacher_stages: Sequence[str] | None = None
    input_shape: Sequence[int] = (3, 224, 224)
    resize: bool = False
    adapter_norm: bool = True

    def __post_init__(self):
        shape = self.input_shape
        if not (isinstance(shape, (list, tuple)) and all(isinstance(n, int) and n > 0 for n in shape)):
            raise ConfigError(f'model.input_shape must be (channels, height, width) of an image, found {shape!r}')
        for key in ('resize', 'adapter_norm'):
            if not isinstance(getattr(self, key), bool):
                raise ConfigError(f'model.{key} must be True or False, found {getattr(self, key)!r}')

    @classmethod
    def of_config(cls, model: Mapping) -> 'Pairing':
        """What the config of a :class:`~mmsskd.StagewiseDistiller` says."""
        return cls(**{each.name: model[each.name] for each in fields(cls) if each.name in model})

    def pair(
        self, student: nn.Module, teacher: nn.Module
    ) -> tuple[dict[str, Stage], dict[str, Stage], dict[str, 'FeatureAdapter']]:
        """Cut both networks and check that each pair of features can be compared.

        Args:
            student, teacher: Models with ``backbone`` and ``extract_feat``.

        Returns:
            The student's stages, the teacher's, and the adapters where widths differ, all by the name of the student's stage.

        Raises:
            ConfigError: Different numbers of stages, or features that cannot be compared.
        """
        inputs = torch.randn(1, *self.input_shape, generator=torch.Generator().manual_seed(0))
        ours = find_stages(student, self.stages, inputs)
        key = 'teacher_stages' if self.teacher_stages else 'stages'
        theirs = find_stages(teacher, self.teacher_stages or self.stages, inputs, key, must_own=False)
        if len(ours) != len(theirs):
            raise ConfigError(
                f'the student has {len(ours)} stages {[stage.name for stage in ours]}, the teacher {len(theirs)} '
                f'{[stage.name for stage in theirs]}; name as many in model.stages as in model.teacher_stages'
            )
        adapters = {}
        for stage, other in zip(ours, theirs):
            adapter = build_adapter(stage.shapes, other.shapes, stage.name, self.resize, self.adapter_norm)
            if adapter is not None:
                adapters[stage.name] = adapter
        return (
            {stage.name: stage for stage in ours},
            {stage.name: other for stage, other in zip(ours, theirs)},
            adapters,
        )


class FeatureAdapter(nn.Module):
    """Maps each tensor of a student feature to the teacher's number of channels.

    A 1x1 convolution for maps (N, C, H, W), a linear layer for tokens (N, L, C) and vectors (N, C), nothing where the channels
    already agree; with ``norm`` batch normalisation behind it, in place of the bias. The paper does not say how widths are
    matched; a 1x1 convolution on the student's side follows FitNets (https://arxiv.org/abs/1412.6550, section 2.2). Trained
    with its stage, dropped when the student is exported.
    """

    def __init__(
        self,
        student_shapes: Sequence[tuple[int, ...]],
        teacher_shapes: Sequence[tuple[int, ...]],
        norm: bool = False,
    ):
        super().__init__()
        self.levels = nn.ModuleList()
        for student, teacher in zip(student_shapes, teacher_shapes, strict=True):
            if channels(student) == channels(teacher):
                self.levels.append(nn.Identity())
                continue
            if len(student) == 3:
                level = nn.Conv2d(channels(student), channels(teacher), kernel_size=1, bias=not norm)
                behind = nn.BatchNorm2d(channels(teacher)) if norm else None
            else:
                level = nn.Linear(channels(student), channels(teacher), bias=not norm)
                behind = _LastNorm(channels(teacher)) if norm else None
            self.levels.append(nn.Sequential(level, behind) if norm else level)

    def forward(self, feature: Sequence[Tensor]) -> tuple[Tensor, ...]:
        return tuple(level(tensor) for level, tensor in zip(self.levels, feature, strict=True))


class _LastNorm(nn.Module):
    """Batch normalisation of vectors (N, C) and tokens (N, L, C); around the layer, which a conversion to SyncBN replaces."""

    def __init__(self, channels: int):
        super().__init__()
        self.bn = nn.BatchNorm1d(channels)

    def forward(self, feature: Tensor) -> Tensor:
        return self.bn(feature.flatten(0, -2)).reshape(feature.shape)


def channels(shape: tuple[int, ...]) -> int:
    """Number of channels of a feature of ``shape`` without its batch dimension: (C, H, W), (L, C) or (C,)."""
    return shape[0] if len(shape) == 3 else shape[-1]


def build_adapter(
    student_shapes, teacher_shapes, stage: str, resize: bool, norm: bool = False
) -> FeatureAdapter | None:
    """The adapter of a stage, or None where none is needed.

    Args:
        student_shapes, teacher_shapes: One shape for each tensor of the feature, without the batch dimension.
        stage: Name of the stage, for messages.
        resize: Allow maps of different height and width, see :func:`match_size`.
        norm: Batch normalisation behind the linear map.

    Raises:
        ConfigError: The features cannot be compared; both shapes are in the message.
    """
    pair = f'stage {stage!r}: student {_show(student_shapes)}, teacher {_show(teacher_shapes)}'
    if len(student_shapes) != len(teacher_shapes):
        raise ConfigError(
            f'{pair}: the features hold different numbers of tensors; set the same number of outputs on both sides'
        )
    for student, teacher in zip(student_shapes, teacher_shapes):
        if len(student) != len(teacher):
            raise ConfigError(
                f'{pair}: one is a map, the other tokens or a vector; end the stage in layers of the same kind'
            )
        if _places(student) != _places(teacher) and not (resize and len(student) == 3):
            mend = 'set model.resize=True to pool the larger map onto the smaller, or ' if len(student) == 3 else ''
            raise ConfigError(
                f'{pair}: the sizes differ; {mend}name stages of equal resolution (tools/print_stages.py lists them)'
            )
    if all(channels(student) == channels(teacher) for student, teacher in zip(student_shapes, teacher_shapes)):
        return None
    return FeatureAdapter(student_shapes, teacher_shapes, norm)


def match_size(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """Average-pool the larger of two maps (N, C, H, W) onto the grid of the smaller; other features pass unchanged."""
    if student.ndim != 4 or student.shape[-2:] == teacher.shape[-2:]:
        return student, teacher
    size = tuple(min(a, b) for a, b in zip(student.shape[-2:], teacher.shape[-2:]))
    return F.adaptive_avg_pool2d(student, size), F.adaptive_avg_pool2d(teacher, size)


def _places(shape: tuple[int, ...]) -> tuple[int, ...]:
    return shape[1:] if len(shape) == 3 else shape[:-1]


def _show(shapes) -> str:
    return ' + '.join('x'.join(map(str, shape)) for shape in shapes)


THAW = 'set frozen_stages=-1 (0 for ConvNeXt, EfficientNet and their kind) in model.student.backbone'


def student_trains(student: nn.Module, stages: Iterable[Stage]) -> dict[str, bool]:
    """Which parameters the student's own config trains, by name. Warns about stages that it freezes in part.

    Raises:
        ConfigError: It freezes the whole of a stage, which would then have nothing to learn.
    """
    student.train()
    trains = {name: parameter.requires_grad for name, parameter in student.named_parameters()}
    constant = {
        f'{path}.{name}'
        for path, module in student.named_modules()
        for name in getattr(module, 'constant_parameters', ())
    }
    for stage in stages:
        frozen = [name for name in stage.parameters if not trains[name] and name not in constant]
        if len(frozen) == len(stage.parameters):
            raise ConfigError(
                f'stage {stage.name!r} has nothing to train: its own config freezes all of its {len(frozen)} parameters; {THAW}'
            )
        modules = [student.get_submodule(path) for path in stage.modules]
        still = sum(isinstance(module, (_BatchNorm, _InstanceNorm)) and not module.training for module in modules)
        if frozen:
            _warn(
                f'stage {stage.name!r}: the config of the student keeps {len(frozen)} of {len(stage.parameters)} parameters frozen '
                f'({frozen[0]}, ...). If that is not meant, {THAW}, or requires_grad=True in its norm_cfg.'
            )
        if still:
            _warn(
                f'stage {stage.name!r}: {still} normalisation layers keep their statistics while the stage trains. If that is not '
                'meant, set norm_eval=False in model.student.backbone.'
            )
    return trains


def _warn(message: str) -> None:
    print_log(message, logger='current', level=logging.WARNING)
