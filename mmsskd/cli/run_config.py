"""The parts of a run's config: of which kind each must be. Checked once, where a config enters, before anything is built.

What only building can tell, an unknown type or argument, :func:`~mmsskd.errors.naming` says with the key of the part. The fields
of a phase have their rules in :mod:`mmsskd.distill.phases`.
"""

import inspect
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.config.utils import MODULE2PACKAGE
from mmengine.hooks import CheckpointHook
from mmengine.registry import FUNCTIONS, MODEL_WRAPPERS, MODELS, Registry
from mmengine.runner import Runner

from ..distill import StageScheduleHook, StagewiseDistiller
from ..distill.build import check_config_path, check_file
from ..distill.distiller import GONE
from ..distill.phases import check_wrapper, is_schedule_hook, is_stagewise
from ..distill.schedule.runner_state import check_optimizer
from ..errors import ConfigError, candidates, check_keys
from ..registry import type_name

LOADED_TOGETHER = ('dataloader', 'cfg', 'evaluator')  # of val and test; MMEngine wants all of them, or none
# By launcher: what it tells each process of its rank
LAUNCHED = dict(pytorch='RANK', slurm='SLURM_PROCID', mpi='OMPI_COMM_WORLD_RANK')
# None switches one off
DEFAULT_HOOKS = ('runtime_info', 'timer', 'sampler_seed', 'logger', 'param_scheduler', 'checkpoint')


def _is_dict(value) -> bool:
    return isinstance(value, Mapping)


def _is_dicts(value) -> bool:
    return isinstance(value, (list, tuple)) and all(map(_is_dict, value))


def _is_whole(least: int) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, int) and not isinstance(value, bool) and value >= least


Rule = tuple[Callable[[Any], bool], str]  # what a value must satisfy, and that in words
DICT = _is_dict, 'a dict'
DICTS = (lambda value: _is_dict(value) or _is_dicts(value)), 'a dict or a list of dicts'
TEXT = (lambda value: isinstance(value, str)), 'text'
BOOL = (lambda value: isinstance(value, bool)), 'True or False'
COUNT = _is_whole(1), 'a whole number of at least 1'

# What may be None, or absent, is in the first table alone. MMEngine's own messages name neither the key nor what it may be.
OPTIONAL: dict[str, Rule] = {
    **dict.fromkeys(
        (
            'train_dataloader', 'val_dataloader', 'test_dataloader', 'train_cfg', 'val_cfg', 'test_cfg', 'optim_wrapper',
            'default_hooks', 'data_preprocessor', 'visualizer', 'auto_scale_lr', 'custom_imports', 'model_wrapper_cfg',
        ),
        DICT,
    ),
    **dict.fromkeys(('param_scheduler', 'val_evaluator', 'test_evaluator'), DICTS),
    'custom_hooks': (_is_dicts, 'a list of dicts'),
    **dict.fromkeys(('work_dir', 'load_from', 'experiment_name', 'default_scope'), TEXT),
    'train_cfg.type': ((lambda value: isinstance(value, str) or callable(value)), 'the name of a train loop'),
    'auto_scale_lr.base_batch_size': COUNT,
    'trust_checkpoint': BOOL,
    'model.data_preprocessor': DICT,
    'model.init_cfg': (
        lambda value: DICTS[0](value) and all('type' in item for item in ([value] if value and _is_dict(value) else value)),
        'a dict with a type, or a list of them',
    ),
    'optim_wrapper.clip_grad': DICT,
    'optim_wrapper.paramwise_cfg': DICT,
    'env_cfg.mp_cfg.mp_start_method': (
        (lambda value: value in ('fork', 'spawn', 'forkserver')), "'fork', 'spawn' or 'forkserver'",
    ),
    'env_cfg.resource_limit': COUNT,
    'randomness.seed': ((lambda value: _is_whole(0)(value) and value < 2**32), 'a whole number from 0 to 2**32 - 1'),
}  # fmt: skip
GIVEN: dict[str, Rule] = {
    'launcher': ((lambda value: value in ('none', *LAUNCHED)), f'one of {", ".join(("none", *LAUNCHED))}'),
    'log_level': (
        lambda value: _is_whole(0)(value) or value in ('DEBUG', 'INFO', 'WARNING', 'ERROR', 'CRITICAL'),
        'INFO, WARNING, ERROR, CRITICAL or DEBUG, in quotes',
    ),
    'visualizer.vis_backends': ((lambda value: value is None or _is_dicts(value)), 'a list of dicts, or None'),
    **dict.fromkeys(('log_processor', 'randomness', 'env_cfg', 'env_cfg.dist_cfg', 'env_cfg.mp_cfg'), DICT),
    **dict.fromkeys(('resume', 'train_cfg.by_epoch', 'randomness.deterministic', 'randomness.diff_rank_seed'), BOOL),
    **dict.fromkeys(
        (
            'optim_wrapper.accumulative_counts', 'train_dataloader.batch_size', 'val_dataloader.batch_size',
            'test_dataloader.batch_size',
        ),
        COUNT,
    ),
    **dict.fromkeys(
        (f'train_cfg.{name}' for name in ('max_epochs', 'max_iters', 'val_interval', 'val_begin')),
        ((lambda value: COUNT[0](int(value) if isinstance(value, float) and value.is_integer() else value)), COUNT[1]),
    ),  # some configs of mmdet compute them by a division
    **dict.fromkeys((f'{split}_dataloader.num_workers' for split in ('train', 'val', 'test')),
                    (_is_whole(0), 'a whole number, 0 or more')),
    **dict.fromkeys((f'{split}_dataloader.dataset' for split in ('train', 'val', 'test')), DICT),
    **dict.fromkeys((f'{split}_dataloader.dataset.pipeline' for split in ('train', 'val', 'test')),
                    (_is_dicts, 'a list of dicts, one for each transform')),
}  # fmt: skip
KEYS = {
    'randomness': ('seed', 'deterministic', 'diff_rank_seed'),
    'env_cfg': ('cudnn_benchmark', 'mp_cfg', 'dist_cfg', 'resource_limit'),
    'env_cfg.mp_cfg': ('mp_start_method', 'opencv_num_threads'),
    'auto_scale_lr': ('enable', 'base_batch_size'),
}
# What the Runner reads beside them; a name as near as this to one that is not set is taken for it
RUNNER = list(inspect.signature(Runner).parameters)
NEAR = 0.85


def check_run(cfg: Config, whole: bool = True) -> None:
    """Check the parts of a run's config. Nothing is built, and no file is looked for.

    Args:
        cfg: Config of the run.
        whole: Whether a Runner is built from it, which wants loaders, loops and what goes with them all together.

    Raises:
        ConfigError: A part is of another kind than MMEngine or mmsskd can read, or one that goes with another is missing; the
            message names its key, what was found, and what is allowed.
    """
    parts = cfg.to_dict(keep_imported=True)
    for rules, required in ((OPTIONAL, False), (GIVEN, True)):
        for key, (rule, allowed) in rules.items():
            found, value = _look_up(parts, key)
            if found and (required or value is not None) and not rule(value):
                raise ConfigError(f'{key} must be {allowed}; found {value!r}')
    for key, names in KEYS.items():
        check_keys(_look_up(parts, key)[1] or {}, names, key)
    _check_names(parts)
    check_part(parts['model'], 'model')
    _check_hooks(parts)
    if whole:
        _check_company(parts)
    schedulers = parts.get('param_scheduler')
    for number, scheduler in enumerate(schedulers if isinstance(schedulers, list) else ()):
        check_part(scheduler, f'param_scheduler[{number}]')
    if parts.get('visualizer') is not None:
        check_part(parts['visualizer'], 'visualizer')
    _check_scope(cfg.get('default_scope'))
    _check_registered(parts)
    wrapper = parts.get('optim_wrapper')
    # constructors may want other keys
    if wrapper is not None and ('optimizer' in wrapper or 'constructor' not in wrapper):
        check_wrapper(wrapper, 'optim_wrapper')
        check_optimizer(wrapper, 'optim_wrapper', cfg.get('default_scope'))
    if is_stagewise(cfg):
        check_fields(cfg)


def _look_up(parts: Mapping, key: str) -> tuple[bool, object]:
    """Whether ``key``, with dots, is there, and its value."""
    *path, last = key.split('.')
    for name in path:
        parts = parts.get(name)
        if not isinstance(parts, Mapping):
            return False, None
    return last in parts, parts.get(last)


def check_part(cfg, where: str) -> None:
    """Refuse what cannot be built: no dict, or one whose ``type`` is missing or not a name."""
    if not isinstance(cfg, Mapping):
        raise ConfigError(f'{where} must be a dict with a type; found {cfg!r}')
    kind = cfg.get('type')
    if not (isinstance(kind, str) or callable(kind)):
        found = f'type={kind!r}' if 'type' in cfg else f'the keys {sorted(map(str, cfg))}'
        raise ConfigError(f'{where}: `type` must be the name of what is to be built; found {found}')


def _check_scope(scope: str | None) -> None:
    """MMEngine only warns of a scope that does not exist, and then does not find the types of the config."""
    if scope is not None and scope not in MODELS.children and (not scope.isidentifier() or find_spec(scope) is None):
        raise ConfigError(f'default_scope: there is no package {scope!r}; {candidates(scope, MODULE2PACKAGE)}')


def _check_registered(parts: Mapping) -> None:
    """Refuse types of which MMEngine does not say that they do not exist, or only where a run has several processes."""
    keys: dict[str, Registry] = {f'{split}_dataloader.collate_fn': FUNCTIONS for split in ('train', 'val', 'test')}
    for key, root in {**keys, 'model_wrapper_cfg': MODEL_WRAPPERS}.items():
        part = _look_up(parts, key)[1]
        kind = part.get('type') if isinstance(part, Mapping) else None
        if isinstance(kind, str) and root.get(kind) is None:  # as the Runner asks, whatever the scope
            raise ConfigError(f'{key}: there is no {root.name} of type {kind!r}; {candidates(kind, root.module_dict)}')


def _check_names(parts: Mapping) -> None:
    """MMEngine lets variables of any name stand in a config, so it is silent where one was to be a key of its own."""
    for name, value in parts.items():
        near = get_close_matches(name, RUNNER, n=1, cutoff=NEAR) if name not in RUNNER else []
        if near and value is not None and not parts.get(near[0]):
            raise ConfigError(
                f'{name}: nobody reads this; did you mean {near[0]!r}? If it is a variable of your own, begin its name with _'
            )


def _check_hooks(parts: Mapping) -> None:
    hooks = parts.get('default_hooks') or {}
    named = {
        f'default_hooks.{name}': hook for name, hook in hooks.items() if hook is not None or name not in DEFAULT_HOOKS
    }
    named |= {f'custom_hooks[{i}]': hook for i, hook in enumerate(parts.get('custom_hooks') or ())}
    for key, hook in named.items():
        check_part(hook, key)
        interval = hook.get('interval', 1)
        ours = type_name(hook) in ('CheckpointHook', 'LoggerHook')
        if ours and (not isinstance(interval, int) or isinstance(interval, bool)):
            raise ConfigError(f'{key}.interval must be a whole number of epochs or iterations; found {interval!r}')
        if hook['type'] in ('CheckpointHook', 'mmengine.CheckpointHook', CheckpointHook):
            # it hands what it does not know to Runner.save_checkpoint, which fails at the first checkpoint
            known = [name for name in inspect.signature(CheckpointHook).parameters if name != 'kwargs']
            check_keys(hook, ['type', '_scope_', 'priority', 'meta', *known], key)


def _check_company(parts: Mapping) -> None:
    """MMEngine wants a loader, a loop and what goes with them all together."""
    groups = [['train_dataloader', 'train_cfg', 'optim_wrapper']]
    groups += [[f'{split}_{name}' for name in LOADED_TOGETHER] for split in ('val', 'test')]
    for keys in groups:
        there = [key for key in keys if parts.get(key) is not None]
        if there and len(there) < len(keys):
            absent = [key for key in keys if key not in there]
            raise ConfigError(
                f'{", ".join(absent)} not set, but {", ".join(there)}: give all of {", ".join(keys)}, or set all to None'
            )
    train_cfg = parts.get('train_cfg')
    if train_cfg is not None and 'type' in train_cfg and 'by_epoch' in train_cfg:
        raise ConfigError(f'train_cfg: by_epoch and type both say which loop it is; remove one. Found {train_cfg!r}')
    if train_cfg is not None and 'type' not in train_cfg:
        by_epoch = train_cfg.get('by_epoch', False)
        length = 'max_epochs' if by_epoch else 'max_iters'
        allowed = ('by_epoch', length, 'val_begin', 'val_interval', 'dynamic_intervals')
        check_keys(train_cfg, allowed, f'train_cfg of a loop with by_epoch={by_epoch}')
        if length not in train_cfg:
            raise ConfigError(f'train_cfg of a loop with by_epoch={by_epoch} needs {length}; found {train_cfg!r}')
    for where in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        loader = parts.get(where)
        if loader is not None and 'dataset' not in loader:
            found = f'found the keys {sorted(map(str, loader))}; {candidates("dataset", loader)}'
            raise ConfigError(f'{where} needs a `dataset`, {found}')
        for key in ('dataset', 'sampler', 'batch_sampler') if loader is not None else ():
            if loader.get(key) is not None:
                check_part(loader[key], f'{where}.{key}')


def check_fields(cfg: Config) -> None:
    """Refuse fields that distiller and hook do not have, and a config without those that they need.

    Raises:
        ConfigError: With near names.
    """
    _check_fields(cfg.model, StagewiseDistiller, 'model', GONE)
    for name, hook in (cfg.get('default_hooks') or {}).items():
        if is_schedule_hook(hook):
            _check_fields(hook, StageScheduleHook, f'default_hooks.{name}')


def _check_fields(cfg: dict, kind: type, where: str, gone: dict | None = None) -> None:
    """Every key of ``cfg`` must be an argument of ``kind``, and every argument without a default must be there."""
    arguments = inspect.signature(kind).parameters.values()
    fields = [argument for argument in arguments if argument.kind is not argument.VAR_KEYWORD]
    check_keys(cfg, ['type', '_scope_', *(field.name for field in fields)], f'{where} ({kind.__name__})', gone)
    for field in fields:
        if field.default is field.empty and field.name not in cfg:
            raise ConfigError(f'{where}: {kind.__name__} needs {field.name!r}, which is not there')


def check_files(cfg: Config) -> None:
    """Refuse a run whose teacher or student is in a file that is not there, or whose work_dir cannot be a folder.

    URLs are not asked for.

    Raises:
        ConfigError: The message names the key and near names.
    """
    if Path(cfg.work_dir).exists() and not Path(cfg.work_dir).is_dir():
        raise ConfigError(f'work_dir: {cfg.work_dir!r} is a file; name a folder')
    for key in ('teacher', 'student') if is_stagewise(cfg) else ():
        model = cfg.model[key]
        check_config_path(model, key)
        files = {f'model.{key}_checkpoint': cfg.model.get(f'{key}_checkpoint')}
        if key == 'teacher' and isinstance(model, dict) and model.get('pretrained') is not True:
            files['model.teacher.pretrained'] = model.get('pretrained')
        for name, path in files.items():
            if path:
                check_file(path, name)
