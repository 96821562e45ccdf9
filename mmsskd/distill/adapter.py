"""Adapters: where the student is narrower or wider than the teacher, a linear map brings its channels to the teacher's."""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import ConfigError


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
