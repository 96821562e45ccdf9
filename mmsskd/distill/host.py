"""What the student's own config has to say about what trains (frozen_stages, norm_eval, requires_grad of norms)."""

import logging
from collections.abc import Iterable

from mmengine.logging import print_log
from mmengine.utils.dl_utils.parrots_wrapper import _BatchNorm, _InstanceNorm
from torch import nn

from ..errors import ConfigError
from .stages import Stage

THAW = 'set frozen_stages=-1 (0 for ConvNeXt, EfficientNet and their kind) in model.student.backbone'


def host_trains(student: nn.Module, stages: Iterable[Stage]) -> dict[str, bool]:
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
