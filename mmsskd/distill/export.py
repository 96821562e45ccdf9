"""The product of a run: the student as a plain model, its config and its weights, without anything of the distillation."""

import copy
import os
from collections.abc import Sequence

import torch
from mmengine.config import Config
from mmengine.runner import Runner
from torch.utils.data import DataLoader

from ..errors import ConfigError
from ..version import __version__
from .build import read_checkpoint, resolve_model_cfg, without_init
from .phases import is_schedule_hook

# top-level keys that MMEngine and the tools of its packages read
MEANINGFUL = (
    'model', 'data_preprocessor', 'tta_model', 'train_dataloader', 'val_dataloader', 'test_dataloader', 'val_evaluator',
    'test_evaluator', 'train_cfg', 'val_cfg', 'test_cfg', 'optim_wrapper', 'param_scheduler', 'default_hooks', 'custom_hooks',
    'visualizer', 'log_processor', 'custom_imports',
)  # fmt: skip


def is_stagewise(cfg: Config) -> bool:
    """Whether ``cfg`` is the config of a stage-by-stage run."""
    return str(cfg.get('model', {}).get('type', '')).endswith('StagewiseDistiller')


def plain_config(cfg: Config, which: str = 'student') -> Config:
    """The config of the student alone, or of the teacher, from the config of a stage-by-stage run.

    All that is not distillation stays: data, evaluators, environment, optimiser. Stock tools of the model's package test,
    fine-tune and deploy with it. Where it names types of mmsskd, ``custom_imports`` imports them.

    Args:
        cfg: Of the run; left unchanged.
        which: ``'student'`` or ``'teacher'``.
    """
    plain = _without_our_scope(cfg.to_dict())
    shared = cfg.get('data_preprocessor') or cfg.model.get('data_preprocessor')
    model = _without_our_scope(without_init(resolve_model_cfg(cfg.model[which], which, shared)))
    scope = model.pop('_scope_', None)
    if scope is not None and scope != plain.get('default_scope'):
        model['_scope_'] = scope
    plain['model'] = model
    hooks = plain.get('default_hooks', {})
    for name in [name for name, hook in hooks.items() if is_schedule_hook(hook)]:
        hooks.pop(name)
    if plain.get('custom_hooks'):
        plain['custom_hooks'] = [hook for hook in plain['custom_hooks'] if not is_schedule_hook(hook)]
    plain['load_from'], plain['resume'] = None, False
    for key in [key for key, value in plain.items() if key not in MEANINGFUL and _mentions_mmsskd(value)]:
        plain.pop(key)  # a name that the config used within itself
    if _mentions_mmsskd(plain):
        imports = dict(plain.get('custom_imports') or dict(imports=[], allow_failed_imports=False))
        imports['imports'] = [*imports['imports'], 'mmsskd']
        plain['custom_imports'] = imports
    return Config(plain)


def _without_our_scope(value):
    """A copy without the ``_scope_='mmsskd'`` that MMEngine puts on all it inherits through ``mmsskd::``."""
    if isinstance(value, dict):
        return {key: _without_our_scope(item) for key, item in value.items() if (key, item) != ('_scope_', 'mmsskd')}
    if isinstance(value, (list, tuple)):
        return type(value)(_without_our_scope(item) for item in value)
    return copy.deepcopy(value)


def _mentions_mmsskd(value) -> bool:
    if isinstance(value, dict):
        return any(_mentions_mmsskd(item) for item in value.values())
    if isinstance(value, (list, tuple)):
        return any(_mentions_mmsskd(item) for item in value)
    return isinstance(value, str) and value.startswith('mmsskd.')


def export_student(state_dict: dict, cfg: Config, out_dir: str, dataset_meta: dict | None = None) -> tuple[str, str]:
    """Write ``student.pth`` and ``student.py`` into ``out_dir``; each is written beside its place and renamed.

    Args:
        state_dict: Of the distiller: the student's weights under its own names, and adapters.
        cfg: Config of the run.
        out_dir: Made if it is missing.
        dataset_meta: Class names and the like, kept in the checkpoint where inference looks for them.

    Returns:
        The two paths.
    """
    os.makedirs(out_dir, exist_ok=True)
    weights, config = os.path.join(out_dir, 'student.pth'), os.path.join(out_dir, 'student.py')
    student = {name: value.detach().cpu() for name, value in state_dict.items() if not name.startswith('adapters.')}
    meta = dict(mmsskd_version=__version__, **(dict(dataset_meta=dataset_meta) if dataset_meta else {}))
    torch.save(dict(meta=meta, state_dict=student), f'{weights}.part')
    os.replace(f'{weights}.part', weights)
    plain = plain_config(cfg)
    for key in ('work_dir', 'launcher', 'model_wrapper_cfg'):  # of the run, not of the student
        plain.pop(key, None)
    plain.dump(f'{config}.part.py')
    os.replace(f'{config}.part.py', config)
    return weights, config


def dataset_meta(runner: Runner, loaders: Sequence[DataLoader]) -> dict | None:
    """Names of the classes, from the first data set that has them: the last phase's may be without annotations."""
    datasets = [loader.dataset for loader in reversed(loaders)]
    if runner._val_dataloader is not None:
        datasets.append(runner.val_loop.dataloader.dataset)
    metas = [getattr(dataset, 'metainfo', None) for dataset in datasets]
    return next((meta for meta in metas if meta and meta.get('classes')), metas[0])


def save_checkpoint(runner: Runner, name: str, meta: dict) -> str:
    """Save a whole checkpoint into the work dir, beside its place and then renamed, on the rank that calls."""
    path = os.path.join(runner.work_dir, name)
    Runner.save_checkpoint.__wrapped__(runner, runner.work_dir, f'{name}.part', meta=meta)  # past its master_only
    os.replace(f'{path}.part', path)
    return path


def export_checkpoint(path: str, out_dir: str, cfg_options: dict | None = None) -> tuple[str, str]:
    """Export the student of any checkpoint of a stage-by-stage run; see :func:`export_student`.

    Args:
        path: The checkpoint, which holds the config of its run.
        out_dir: As there.
        cfg_options: Changes of that config, by dotted keys.

    Raises:
        ConfigError: The file is missing, unreadable, or of another kind of run.
    """
    checkpoint = read_checkpoint(path, 'checkpoint')
    if 'stage_schedule' not in checkpoint or 'cfg' not in checkpoint.get('meta', {}):
        raise ConfigError(f'{path!r} was not written by a stage-by-stage run; a plain checkpoint needs no export')
    meta = checkpoint['meta']
    cfg = Config.fromstring(meta['cfg'], file_format='.py')
    try:
        cfg.merge_from_dict(cfg_options or {})
    except Exception as error:
        raise ConfigError(f'--cfg-options: {type(error).__name__}: {error}') from error
    return export_student(checkpoint['state_dict'], cfg, out_dir, meta.get('dataset_meta'))
