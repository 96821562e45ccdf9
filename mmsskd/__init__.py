"""mmsskd: stage-by-stage knowledge distillation (arXiv 1812.01819) for MMEngine models.

Importing the package makes ``_base_ = 'mmsskd::sskd/...'`` resolve in configs that are read afterwards.
"""

from .version import __version__, check_versions

check_versions()

from mmengine.config.utils import MODULE2PACKAGE  # noqa: E402

MODULE2PACKAGE.setdefault('mmsskd', 'mmsskd')

from .distill import FeatureMimicLoss, StageScheduleHook, StagewiseDistiller  # noqa: E402

__all__ = ['FeatureMimicLoss', 'StageScheduleHook', 'StagewiseDistiller', '__version__']
