"""Adapters: where the student is narrower or wider than the teacher, a linear map brings its channels to the teacher's."""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import ConfigError


class FeatureAdapter(nn.Module):
    """Maps each tensor of a student feature to the teacher's number of channels.

    A 1x1 convolution for maps (N, C, H, W), a linear layer for tokens (N, L, C) and vectors (N, C), nothing where the channels
    already agree. The paper does not say how widths are matched; a 1x1 convolution on the student's side follows FitNets
    (https://arxiv.org/abs/1412.6550, section 2.2). Trained with its stage, dropped when the student is exported.
    """

    def __init__(self, student_shapes: Sequence[tuple[int, ...]], teacher_shapes: Sequence[tuple[int, ...]]):
        super().__init__()
        self.levels = nn.ModuleList()
        for student, teacher in zip(student_shapes, teacher_shapes, strict=True):
            if channels(student) == channels(teacher):
                self.levels.append(nn.Identity())
            elif len(student) == 3:
                self.levels.append(nn.Conv2d(channels(student), channels(teacher), kernel_size=1))
            else:
                self.levels.append(nn.Linear(channels(student), channels(teacher)))

    def forward(self, feature: Sequence[Tensor]) -> tuple[Tensor, ...]:
        return tuple(level(tensor) for level, tensor in zip(self.levels, feature, strict=True))


def channels(shape: tuple[int, ...]) -> int:
    """Number of channels of a feature of ``shape`` without its batch dimension: (C, H, W), (L, C) or (C,)."""
    return shape[0] if len(shape) == 3 else shape[-1]


def build_adapter(student_shapes, teacher_shapes, stage: str, resize: bool) -> FeatureAdapter | None:
    """The adapter of a stage, or None where none is needed.

    Args:
        student_shapes, teacher_shapes: One shape for each tensor of the feature, without the batch dimension.
        stage: Name of the stage, for messages.
        resize: Allow maps of different height and width, see :func:`match_size`.

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
    return FeatureAdapter(student_shapes, teacher_shapes)


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
