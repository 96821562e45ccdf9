"""The method: it knows stages and phases, but no task. Imports torch and mmengine only."""

from .distiller import StagewiseDistiller
from .losses import CosineMimicLoss, FeatureMimicLoss, LogitsKDLoss
from .schedule.hook import StageScheduleHook

__all__ = ['CosineMimicLoss', 'FeatureMimicLoss', 'LogitsKDLoss', 'StageScheduleHook', 'StagewiseDistiller']
