"""The product of a run: the student as a plain model, its config and its weights, without anything of the distillation."""

import copy
import os
import sys
import time
from collections.abc import Sequence

import mmengine
import torch
from mmengine.config import Config
from mmengine.config.utils import MODULE2PACKAGE
from mmengine.registry import Registry
from mmengine.runner import Runner, weights_to_cpu
from mmengine.utils import get_git_hash
from torch import nn
from torch.utils.data import DataLoader

from ..errors import ConfigError
from ..utils.files import replacing
from ..utils.trust import config_of
from ..version import __version__
from .build import BESIDE, not_finite, read_checkpoint, resolve_with_imports, without_init
from .network.projector import resolve_student
from .phases import is_schedule_hook

# top-level keys that MMEngine and the tools of its packages read
MEANINGFUL = (
    'model', 'data_preprocessor', 'tta_model', 'train_dataloader', 'val_dataloader', 'test_dataloader', 'val_evaluator',
    'test_evaluator', 'train_cfg', 'val_cfg', 'test_cfg', 'optim_wrapper', 'param_scheduler', 'default_hooks', 'custom_hooks',
    'visualizer', 'log_processor', 'custom_imports',
)  # fmt: skip


# packages whose types are found without an import that names the module
REGISTER_THEIR_OWN = {'torch', 'mmengine', 'mmcv', *MODULE2PACKAGE}


def is_stagewise(cfg: Config) -> bool:
    """Whether ``cfg`` is the config of a stage-by-stage run."""
    return str(cfg.get('model', {}).get('type', '')).endswith('StagewiseDistiller')


def plain_config(cfg: Config, which: str = 'student') -> Config:
    """The config of the student alone, or of the teacher, from the config of a stage-by-stage run.

    All that is not distillation stays: data, evaluators, environment, optimizer. Stock tools of the model's package test,
    fine-tune and deploy with it. ``custom_imports``, of the run and of the student's own config file, stay where they serve a type
    that is still named, and import mmsskd where one is its.

    Args:
        cfg: Of the run; left unchanged.
        which: ``'student'`` or ``'teacher'``.
    """
    plain = _without_our_scope(cfg.to_dict())
    shared = cfg.get('data_preprocessor') or cfg.model.get('data_preprocessor')
    if which == 'student':
        resolved, own_imports = resolve_student(cfg.model, shared)
    else:
        resolved, *own_imports = resolve_with_imports(cfg.model[which], which, shared)
    model = _without_our_scope(without_init(resolved))
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
    plain.pop('trust_checkpoint', None)  # who trusts one file does not trust the next
    for key in [key for key, value in plain.items() if key not in MEANINGFUL and _mentions_mmsskd(value)]:
        plain.pop(key)  # a name that the config used within itself
    imports = _needed_imports(plain, [plain.pop('custom_imports', None), *own_imports])
    if imports:
        plain['custom_imports'] = imports
    return Config(plain)


def _needed_imports(plain: dict, sources: Sequence[dict | None]) -> dict | None:
    """The ``custom_imports`` of a plain config: of the run's and the student's own, those that still serve something in it.

    An import serves what it registers. One that registers nothing is kept: nobody knows what else it does.

    Args:
        plain: The config, without ``custom_imports``.
        sources: Those of the configs that it was made of.
    """
    sources = [source for source in sources if source]
    listed = [[each] if isinstance(each, str) else list(each) for each in (source['imports'] for source in sources)]
    modules = dict.fromkeys(module for imports in listed for module in imports)
    registered = _registered() if modules else []
    used = _used(
        {key: value for key, value in plain.items() if key in MEANINGFUL or key == 'default_scope'}, registered
    )
    gives = {module: [value for _, value in registered if _provides(module, value)] for module in modules}
    given = {id(value) for values in gives.values() for value in values}
    for value in used:
        for module in modules:  # `package.hooks` imports on its way what `package` itself registers
            if id(value) not in given and module.partition('.')[0] == _package(value):
                gives[module].append(value)
    serving = {id(value) for value in used}
    needed = [module for module, values in gives.items() if not values or any(id(value) in serving for value in values)]
    if _mentions_mmsskd(plain) and 'mmsskd' not in needed:
        needed.append('mmsskd')
    may_fail = bool(sources) and all(source.get('allow_failed_imports', False) for source in sources)
    return dict(imports=needed, allow_failed_imports=may_fail) if needed else None


def _provides(module: str, value) -> bool:
    """Whether ``module`` registers ``value``: defines it, has a module below it that does, or has taken it from elsewhere."""
    home = _home(value)
    if home == module or home.startswith(f'{module}.'):
        return True
    elsewhere = _package(value) not in REGISTER_THEIR_OWN
    return elsewhere and any(each is value for each in vars(sys.modules.get(module, object)).values())


def _home(value) -> str:
    """The module that defines a class or function."""
    return getattr(value, '__module__', None) or ''


def _package(value) -> str:
    return _home(value).partition('.')[0]


def _registered() -> list[tuple[str, object]]:
    """Name and value of all that is registered, in whichever registry."""
    waiting = [each for each in vars(mmengine.registry).values() if isinstance(each, Registry)]
    found = []
    while waiting:
        registry = waiting.pop()
        waiting += registry.children.values()
        found += registry.module_dict.items()
    return found


def _used(plain: dict, registered: Sequence[tuple[str, object]]) -> list:
    """List those of the ``registered`` values that a config names, under whichever key.

    A name without a scope is not that of a package of OpenMMLab to which the config does not belong: `ResNet` of mmpretrain is not
    used by a detector of mmdet, `mmpretrain.ResNet` is.
    """
    texts = list(_texts(plain))
    scopes = {text for key, text in texts if key in ('_scope_', 'default_scope')}
    names: dict[str, set[str]] = {text.rpartition('.')[2]: set() for _, text in texts}
    for _, text in texts:
        names[text.rpartition('.')[2]].add(text.partition('.')[0] if '.' in text else '')
    return [
        value
        for name, value in registered
        if name in names
        and (
            _package(value) not in REGISTER_THEIR_OWN
            or _package(value) in names[name]
            or ('' in names[name] and _package(value) in scopes)
        )
    ]


def _texts(value, key: str = ''):
    """Yield each text in a config, and each type as one, with the key under which it stands."""
    if isinstance(value, dict):
        for name, item in value.items():
            yield from _texts(item, name)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _texts(item, key)
    elif isinstance(value, (str, type)):
        yield key, value if isinstance(value, str) else f'{value.__module__}.{value.__name__}'


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
        state_dict: Of the distiller: the student's weights under its own names, and those beside it.
        cfg: Config of the run.
        out_dir: Made if it is missing.
        dataset_meta: Class names and the like, kept in the checkpoint where inference looks for them.

    Returns:
        The two paths.
    """
    weights, config = os.path.join(out_dir, 'student.pth'), os.path.join(out_dir, 'student.py')
    student = {name: value.detach().cpu() for name, value in state_dict.items() if not name.startswith(BESIDE)}
    wild = not_finite(student)
    if wild:
        raise ConfigError(
            f'the student is not exported: {len(wild)} of its weights and buffers are NaN or infinite ({", ".join(wild[:3])}); '
            'take an earlier checkpoint'
        )
    meta = dict(mmsskd_version=__version__, **(dict(dataset_meta=dataset_meta) if dataset_meta else {}))
    with replacing(weights) as part:
        torch.save(dict(meta=meta, state_dict=student), part)
    plain = plain_config(cfg)
    for key in ('work_dir', 'launcher', 'model_wrapper_cfg'):  # of the run, not of the student
        plain.pop(key, None)
    with replacing(config, '.py') as part:
        plain.dump(str(part))
    return weights, config


def dataset_meta(runner: Runner, loaders: Sequence[DataLoader]) -> dict | None:
    """Names of the classes, from the first data set that has them: the last phase's may be without annotations."""
    datasets = [loader.dataset for loader in reversed(loaders)]
    if runner.val_loop is not None:
        datasets.append(runner.val_loop.dataloader.dataset)
    metas = [getattr(dataset, 'metainfo', None) for dataset in datasets]
    return next((meta for meta in metas if meta and meta.get('classes')), metas[0])


def whole_checkpoint(runner: Runner, model: nn.Module) -> dict:
    """A checkpoint with all that MMEngine puts into its own, for the hooks that change one before it is saved.

    Args:
        runner: At the end of an epoch or iteration.
        model: Its model, without a wrapper.
    """
    schedulers = runner.param_schedulers or []
    return dict(
        meta=dict(
            epoch=runner.epoch,
            iter=runner.iter,
            cfg=runner.cfg.pretty_text,
            seed=runner.seed,
            experiment_name=runner.experiment_name,
            time=time.strftime('%Y%m%d_%H%M%S'),
            mmengine_version=mmengine.__version__ + get_git_hash(),
            dataset_meta=getattr(runner.train_dataloader.dataset, 'metainfo', None),
        ),
        state_dict=weights_to_cpu(model.state_dict()),
        message_hub=runner.message_hub.state_dict(),
        optimizer=runner.optim_wrapper.state_dict(),
        param_schedulers=[scheduler.state_dict() for scheduler in schedulers],
    )


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
    cfg = config_of(meta['cfg'], path)
    try:
        cfg.merge_from_dict(cfg_options or {})
    except Exception as error:
        raise ConfigError(f'--cfg-options: {type(error).__name__}: {error}') from error
    return export_student(checkpoint['state_dict'], cfg, out_dir, meta.get('dataset_meta'))
