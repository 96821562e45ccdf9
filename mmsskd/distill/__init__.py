"""The method: it knows stages and phases, but no task. Imports torch and mmengine only."""

from .distiller import StagewiseDistiller
from .external_teacher import ExternalTeacher
from .losses import (
    AttentionMimicLoss,
    BalancedMimicLoss,
    CosineMimicLoss,
    CWDLoss,
    FeatureMimicLoss,
    LogitsKDLoss,
    MGDLoss,
    MimicLoss,
    PKDLoss,
)
from .network.projector import BottleneckProjector
from .schedule.hook import StageScheduleHook
from .schedule.mmengine_private import lay_out_once, read_checkpoints_as_data

__all__ = [
    'AttentionMimicLoss',
    'BalancedMimicLoss',
    'BottleneckProjector',
    'CWDLoss',
    'CosineMimicLoss',
    'ExternalTeacher',
    'FeatureMimicLoss',
    'LogitsKDLoss',
    'MGDLoss',
    'MimicLoss',
    'PKDLoss',
    'StageScheduleHook',
    'StagewiseDistiller',
]

read_checkpoints_as_data()  # also where the train.py of another package builds our distiller
lay_out_once()
