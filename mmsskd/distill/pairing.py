"""Teacher and student stage by stage: which stage follows which, and what stands between their features."""

from collections.abc import Sequence

import torch
from torch import nn

from ..errors import ConfigError
from .activation import before_activation
from .adapter import FeatureAdapter, build_adapter
from .stages import Stage, find_stages


def pair_stages(
    student: nn.Module,
    teacher: nn.Module,
    stages: Sequence[str] | None,
    teacher_stages: Sequence[str] | None,
    input_shape: Sequence[int],
    resize: bool,
    pre_activation: bool = False,
    adapter_norm: bool = False,
) -> tuple[dict[str, Stage], dict[str, Stage], dict[str, FeatureAdapter]]:
    """Cut both networks and check that each pair of features can be compared.

    Args:
        student, teacher: Models with ``backbone`` and ``extract_feat``.
        stages: Names of the student's stages; None: its resolution stages.
        teacher_stages: Names of the teacher's; None: ``stages``.
        input_shape: (channels, height, width) of an image.
        resize: Allow maps of different height and width.
        pre_activation: Take the features in front of the activations in which the stages end.
        adapter_norm: Put batch normalisation behind the adapters.

    Returns:
        The student's stages, the teacher's, and the adapters where widths differ, all by the name of the student's stage.

    Raises:
        ConfigError: Different numbers of stages, or features that cannot be compared.
    """
    if not (isinstance(input_shape, (list, tuple)) and all(isinstance(n, int) and n > 0 for n in input_shape)):
        raise ConfigError(f'model.input_shape must be (channels, height, width) of an image, found {input_shape!r}')
    inputs = torch.randn(1, *input_shape, generator=torch.Generator().manual_seed(0))
    own = find_stages(student, stages, inputs)
    key = 'teacher_stages' if teacher_stages else 'stages'
    theirs = find_stages(teacher, teacher_stages or stages, inputs, key, must_own=False)
    if len(own) != len(theirs):
        raise ConfigError(
            f'the student has {len(own)} stages {[stage.name for stage in own]}, the teacher {len(theirs)} '
            f'{[stage.name for stage in theirs]}; name as many in model.stages as in model.teacher_stages'
        )
    if pre_activation:
        own = [before_activation(student, stage, inputs, 'student') for stage in own]
        theirs = [before_activation(teacher, stage, inputs, 'teacher') for stage in theirs]
    adapters = {}
    for stage, other in zip(own, theirs):
        adapter = build_adapter(stage.shapes, other.shapes, stage.name, resize, adapter_norm)
        if adapter is not None:
            adapters[stage.name] = adapter
    return {stage.name: stage for stage in own}, {stage.name: other for stage, other in zip(own, theirs)}, adapters
