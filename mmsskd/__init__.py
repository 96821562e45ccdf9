"""mmsskd: stage-by-stage knowledge distillation (SSKD, https://arxiv.org/abs/1812.01819) for MMEngine models.

Not Self-Supervised Knowledge Distillation (ECCV 2020), which has the same initials.

Importing the package makes ``_base_ = 'mmsskd::sskd/...'`` resolve in configs that are read afterwards. Nothing that needs torch
is imported before it is asked for, so that :mod:`mmsskd.face.evaluation` runs with numpy alone.
"""

from contextlib import suppress
from importlib import import_module
from typing import TYPE_CHECKING

from .version import __version__, check_versions

if TYPE_CHECKING:
    from .distill import FeatureMimicLoss, StageScheduleHook, StagewiseDistiller

__all__ = ['FeatureMimicLoss', 'StageScheduleHook', 'StagewiseDistiller', '__version__']

check_versions(required=())  # what is missing is said where it is needed, in the registry

with suppress(ImportError):
    from mmengine.config.utils import MODULE2PACKAGE  # does not import torch

    MODULE2PACKAGE.setdefault('mmsskd', 'mmsskd')


def __getattr__(name: str):
    if name == 'distill':  # a package that can be called, see there
        return import_module('.distill', __name__)
    if name in __all__:
        return getattr(import_module('.distill', __name__), name)
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
