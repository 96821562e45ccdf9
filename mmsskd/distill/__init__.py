"""The method: it knows stages and phases, but no task. Imports torch and mmengine only."""

from .distiller import StagewiseDistiller
from .losses import CosineMimicLoss, FeatureMimicLoss, LogitsKDLoss
from .network.projector import BottleneckProjector
from .schedule.hook import StageScheduleHook
from .schedule.mmengine_private import read_checkpoints_as_data

__all__ = [
    'BottleneckProjector',
    'CosineMimicLoss',
    'FeatureMimicLoss',
    'LogitsKDLoss',
    'StageScheduleHook',
    'StagewiseDistiller',
]

read_checkpoints_as_data()  # also where the train.py of another package builds our distiller
