"""Which data set an error came from. Looked for once something has failed, so a run that works pays nothing for it."""

import copy

from mmengine.config import Config
from mmengine.registry import DATASETS, DefaultScope

EMPTY = (
    'need at least one array to concatenate',
    'list index out of range',
)  # what MMEngine says of a set without images


def find_data_error(cfg: Config, caught: Exception) -> str | None:
    """A message about the data set, built by itself, that fails as ``caught`` says; None where none does."""
    for key, loader in _loaders(cfg):
        dataset = loader.get('dataset') if isinstance(loader, dict) else None
        if not isinstance(dataset, dict):
            continue
        try:
            with DefaultScope.overwrite_default_scope(cfg.get('default_scope', 'mmengine')):
                DATASETS.build(copy.deepcopy(dataset))
        except Exception as error:
            if (type(error), str(error)) != (type(caught), str(caught)):
                continue
            source = ', '.join(f'{name}={dataset[name]!r}' for name in ('data_root', 'ann_file') if dataset.get(name))
            reason = f'{type(error).__name__}: {error}'
            if any(words in str(error) for words in EMPTY):
                reason = (
                    'no image is left: the annotation file names none, none of its categories is among the classes '
                    '(dataset.metainfo=dict(classes=(...)); without it, those of COCO), or filter_cfg leaves all out'
                )
            return f'{key}.dataset cannot be built from {source or "its config"}: {reason}'
    for key in ('val_evaluator', 'test_evaluator'):
        evaluator = cfg.get(key)
        path = evaluator.get('ann_file') if isinstance(evaluator, dict) else None
        if isinstance(caught, FileNotFoundError) and path and path in str(caught):
            return f'{key}.ann_file: no file {path!r}; it is not that of the data set, name it too'
    return None


def _loaders(cfg: Config):
    for key in ('train_dataloader', 'val_dataloader'):
        yield key, cfg.get(key)
    for name, hook in (cfg.get('default_hooks') or {}).items():
        if not isinstance(hook, dict):
            continue
        where = f'default_hooks.{name}'
        for part in ('transfer', 'head'):
            yield f'{where}.{part}.train_dataloader', (hook.get(part) or {}).get('train_dataloader')
        for i, phase in enumerate(hook.get('phases') or ()):
            yield f'{where}.phases[{i}].train_dataloader', phase.get('train_dataloader')
