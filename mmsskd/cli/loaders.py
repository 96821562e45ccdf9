"""Settings of a loader where its config gives none, much as in mmpretrain's own tools."""

import torch
from mmengine.config import Config

from ..distill.phases import is_schedule_hook
from ..registry import type_name

LOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')


def complete_loaders(cfg: Config) -> None:
    """Give the loaders of mmpretrain's models what makes them fast, in place.

    Workers stack the images of a batch, live for the whole run, and on a GPU write into pinned memory. The numbers of a run stay
    the same. Without it each image goes to the GPU, is normalized and padded by itself: five operations an image instead of three
    a batch. Models of other packages have images of different sizes, or configs that say all of this, and are left alone.

    Args:
        cfg: Of a run, with all options merged.
    """
    if cfg.get('default_scope') != 'mmpretrain':
        return
    owners = [cfg]
    for hook in (cfg.get('default_hooks') or {}).values():
        if is_schedule_hook(hook):
            phases = hook.get('phases')
            own = [hook.get('transfer'), hook.get('head'), *(phases if isinstance(phases, (list, tuple)) else ())]
            owners += [part for part in own if isinstance(part, dict)]
    for loader in (owner.get(name) for owner in owners for name in LOADERS):
        if isinstance(loader, dict):
            if type_name(loader.get('dataset')) == 'ResidentImages':
                loader.update(num_workers=0, pin_memory=False, persistent_workers=False)
            loader.setdefault('collate_fn', dict(type='mmsskd.stack_images'))
            loader.setdefault('persistent_workers', bool(loader.get('num_workers')))
            loader.setdefault('pin_memory', torch.cuda.is_available())
