"""Which data set an error came from. Looked for once something has failed, so a run that works pays nothing for it."""

import copy

from mmengine.config import Config
from mmengine.registry import DATASETS, DefaultScope

EMPTY = (
    'need at least one array to concatenate',
    'list index out of range',
)  # what MMEngine says of a set without images


def find_data_error(cfg: Config) -> str | None:
    """Build each data set of a config by itself; a message about the first that fails, None where all can be built."""
    for key, loader in _loaders(cfg):
        dataset = loader.get('dataset') if isinstance(loader, dict) else None
        if not isinstance(dataset, dict):
            continue
        try:
            with DefaultScope.overwrite_default_scope(cfg.get('default_scope', 'mmengine')):
                DATASETS.build(copy.deepcopy(dataset))
        except Exception as error:
            source = ', '.join(f'{name}={dataset[name]!r}' for name in ('data_root', 'ann_file') if dataset.get(name))
            reason = f'{type(error).__name__}: {error}'
            if any(words in str(error) for words in EMPTY):
                reason = 'no image is left: the annotation file names none, or filter_cfg leaves all of them out'
            return f'{key}.dataset cannot be built from {source or "its config"}: {reason}'
    return None


def _loaders(cfg: Config):
    for key in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        yield key, cfg.get(key)
    for name, hook in (cfg.get('default_hooks') or {}).items():
        if not isinstance(hook, dict):
            continue
        where = f'default_hooks.{name}'
        for part in ('transfer', 'head'):
            yield f'{where}.{part}.train_dataloader', (hook.get(part) or {}).get('train_dataloader')
        for i, phase in enumerate(hook.get('phases') or ()):
            yield f'{where}.phases[{i}].train_dataloader', phase.get('train_dataloader')
