"""The method: it knows stages and phases, but no task (one loss reads boxes). Imports torch and mmengine only."""

import sys
from types import ModuleType

from .distiller import StagewiseDistiller
from .losses import (
    BalancedMimicLoss,
    CosineMimicLoss,
    CWDLoss,
    FeatureMimicLoss,
    ForegroundMimicLoss,
    LogitsKDLoss,
    MGDLoss,
    MimicLoss,
    PKDLoss,
)
from .network.projector import BottleneckProjector
from .schedule.captured_run import CapturedStepsHook
from .schedule.hook import StageScheduleHook
from .schedule.mmengine_private import lay_out_once, read_checkpoints_as_data
from .teacher import ExternalTeacher

__all__ = [
    'BalancedMimicLoss',
    'BottleneckProjector',
    'CWDLoss',
    'CapturedStepsHook',
    'CosineMimicLoss',
    'ExternalTeacher',
    'FeatureMimicLoss',
    'ForegroundMimicLoss',
    'LogitsKDLoss',
    'MGDLoss',
    'MimicLoss',
    'PKDLoss',
    'StageScheduleHook',
    'StagewiseDistiller',
]

read_checkpoints_as_data()  # also where the train.py of another package builds our distiller
lay_out_once()


class _Callable(ModuleType):
    """``mmsskd.distill(...)``: the call for which a user looks has the name that this package has had from the start."""

    def __call__(self, *args, **options):
        from ..one_call import distill  # only when called: the room above may import this one, not the other way

        return distill(*args, **options)


sys.modules[__name__].__class__ = _Callable
