"""The method: it knows stages and phases, but no task. Imports torch and mmengine only."""

from .distiller import StagewiseDistiller
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
from .schedule.mmengine_private import read_checkpoints_as_data

__all__ = [
    'AttentionMimicLoss',
    'BalancedMimicLoss',
    'BottleneckProjector',
    'CWDLoss',
    'CosineMimicLoss',
    'FeatureMimicLoss',
    'LogitsKDLoss',
    'MGDLoss',
    'MimicLoss',
    'PKDLoss',
    'StageScheduleHook',
    'StagewiseDistiller',
]

read_checkpoints_as_data()  # also where the train.py of another package builds our distiller
