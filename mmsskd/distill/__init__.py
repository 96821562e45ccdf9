"""The method: it knows stages and phases, but no task. Imports torch and mmengine only."""

from .cosine_mimic_loss import CosineMimicLoss
from .distiller import StagewiseDistiller
from .logits_kd_loss import LogitsKDLoss
from .mimic_loss import FeatureMimicLoss
from .schedule_hook import StageScheduleHook

__all__ = ['CosineMimicLoss', 'FeatureMimicLoss', 'LogitsKDLoss', 'StageScheduleHook', 'StagewiseDistiller']
