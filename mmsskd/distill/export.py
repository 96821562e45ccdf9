"""The product of a run: the student as a plain model, its config and its weights, without anything of the distillation."""

import copy
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import mmengine
import torch
from mmengine.config import Config
from mmengine.config.utils import MODULE2PACKAGE
from mmengine.registry import Registry
from mmengine.runner import Runner, weights_to_cpu
from mmengine.structures import BaseDataElement
from mmengine.utils import get_git_hash
from torch import Tensor, nn
from torch.utils.data import DataLoader

from ..errors import ConfigError, check_keys, describe, explaining, some
from ..utils.detections import image_size, is_detector
from ..utils.files import replacing
from ..utils.portable import FORMATS, check_onnx, write_portable
from ..utils.states import in_eval_mode, random_states_kept
from ..utils.trust import config_of, is_trusting
from ..version import __version__
from .build import (
    BESIDE,
    build_model,
    load_strictly,
    model_of,
    not_finite,
    predicts_nothing,
    read_checkpoint,
    resolve_with_imports,
    without_init,
)
from .network.forward import DEFAULT_SHAPE
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
        resolved, *own_imports = resolve_with_imports(cfg.model[which], which)
        if shared:
            resolved.setdefault('data_preprocessor', copy.deepcopy(shared))  # of a teacher that has none of its own
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

    An import serves where its package registers something that the config names. One whose package registers nothing is kept:
    nobody knows what else it does. A name alone is not that of a package of OpenMMLab to which the config does not belong:
    `ResNet` of mmpretrain is not used by a detector of mmdet, `mmpretrain.ResNet` is.

    Args:
        plain: The config, without ``custom_imports``.
        sources: Those of the configs that it was made of.
    """
    sources = [source for source in sources if source]
    listed = [[each] if isinstance(each, str) else list(each) for each in (source['imports'] for source in sources)]
    needed = dict.fromkeys(module for imports in listed for module in imports)
    if needed:
        texts = list(_texts({key: plain[key] for key in (*MEANINGFUL, 'default_scope') if key in plain}))
        named = {text.rpartition('.')[2] for _, text in texts}
        packages = {text.partition('.')[0] for key, text in texts if '.' in text or key in ('_scope_', 'default_scope')}
        gives = _registered()
        for module in list(needed):
            package = module.partition('.')[0]
            foreign = package in MODULE2PACKAGE and package not in packages
            if package in gives and (foreign or not gives[package] & named):
                needed.pop(module)
    if _mentions_mmsskd(plain):
        needed['mmsskd'] = None
    may_fail = bool(sources) and all(source.get('allow_failed_imports', False) for source in sources)
    return dict(imports=list(needed), allow_failed_imports=may_fail) if needed else None


def _registered() -> dict[str, set[str]]:
    """Names of all that is registered, in whichever registry, by the package that defines it."""
    waiting = [each for each in vars(mmengine.registry).values() if isinstance(each, Registry)]
    found: dict[str, set[str]] = {}
    for registry in waiting:  # which grows by their children
        waiting += registry.children.values()
        for name, value in registry.module_dict.items():
            found.setdefault(str(getattr(value, '__module__', '')).partition('.')[0], set()).add(name)
    return found


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
    return any(text.startswith('mmsskd.') for _, text in _texts(value))


def export_student(
    state_dict: dict,
    plain: Config,
    out_dir: str,
    dataset_meta: dict | None = None,
    ask: Callable[[nn.Module], list[Tensor]] | None = None,
    student: nn.Module | None = None,
    read: Callable[[Path], Config] | None = Config.fromfile,
) -> tuple[str, str]:
    """Write ``student.pth`` and ``student.py`` into ``out_dir``, and read them back before they get these names.

    The student is built from what was written, the weights are loaded strictly, and where somebody asks, it must answer as the
    one in memory does.

    Args:
        state_dict: Of the distiller: the student's weights under its own names, and those beside it.
        plain: Config of the student, see :func:`plain_config`.
        out_dir: Made if it is missing.
        dataset_meta: Class names and the like, kept in the checkpoint where inference looks for them.
        ask: Gives a student's answers to some images.
        student: The one in memory; it has the weights of ``state_dict``.
        read: Reads the config that was written; None: nothing is read back.

    Returns:
        The two paths.

    Raises:
        ConfigError: Weights are not finite; or what was written is not the student. Then its files are
            ``student.not_valid.pth`` and ``.py``.
    """
    weights, config = os.path.join(out_dir, 'student.pth'), os.path.join(out_dir, 'student.py')
    own = {name: value.detach().cpu() for name, value in state_dict.items() if not name.startswith(BESIDE)}
    wild = not_finite(own)
    if wild:
        raise ConfigError(
            f'the student is not exported: {len(wild)} of its weights and buffers are NaN or infinite ({", ".join(wild[:3])}); '
            'take an earlier checkpoint'
        )
    meta = dict(mmsskd_version=__version__, **(dict(dataset_meta=dataset_meta) if dataset_meta else {}))
    plain = copy.deepcopy(plain)
    for key in ('work_dir', 'launcher', 'model_wrapper_cfg'):  # of the run, not of the student
        plain.pop(key, None)
    with replacing(weights) as weights_part, replacing(config, '.py') as config_part:
        torch.save(dict(meta=meta, state_dict=own), weights_part)
        plain.dump(str(config_part))
        config_part.write_text(_what_is_ours(plain) + config_part.read_text())
        try:
            if read is not None:
                written = build_model(without_init(model_of(read(config_part))), 'student.py')
                load_strictly(written, str(weights_part), 'student.pth')
            if ask is not None:
                _check_same_answers(ask(student), ask(written.to(next(student.parameters()).device)))
        except Exception as error:
            kept = [os.path.join(out_dir, f'student.not_valid{suffix}') for suffix in ('.pth', '.py')]
            os.replace(weights_part, kept[0])
            os.replace(config_part, kept[1])
            raise ConfigError(
                f'the student that was written is not the one that was trained: {describe(error)}. Its files are {kept[0]} and '
                f'{kept[1]}; the checkpoints are not touched by this'
            ) from error
    return weights, config


def _check_same_answers(expected: list[Tensor], found: list[Tensor]) -> None:
    shapes = [[tuple(each.shape) for each in answers] for answers in (expected, found)]
    if shapes[0] != shapes[1]:
        raise ConfigError(f'on the same images the answers have the shapes {shapes[1][:8]}, in memory {shapes[0][:8]}')
    for one, other in zip(expected, found):
        if not torch.allclose(one.float(), other.float(), rtol=1e-3, atol=1e-4, equal_nan=True):
            gap = (one.float() - other.float()).abs().max().item()
            raise ConfigError(f'on the same images its answers differ from those in memory by up to {gap:.3g}')


def answers(model: nn.Module, batch: dict, predict: bool) -> list[Tensor]:
    """Predictions of a model for a batch of a data loader, or features where it has none."""
    batch = copy.deepcopy(batch)  # predictions are put into the data samples
    with torch.no_grad(), in_eval_mode(model), random_states_kept():
        if predict:
            return list(_tensors(model.test_step(batch)))
        return list(_tensors(model.extract_feat(model.data_preprocessor(batch, False)['inputs'])))


def _tensors(value) -> Iterator[Tensor]:
    if isinstance(value, BaseDataElement):
        value = dict(value.items())
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from _tensors(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _tensors(item)


@contextmanager
def weights_of(distiller: nn.Module, state_dict: dict):
    """Within this context the student of ``distiller`` has other weights, as those that an EMA has averaged.

    Raises:
        ConfigError: Other names than those of the distiller.
    """
    with distiller.own_names():
        kept = {name: value.clone() for name, value in distiller.state_dict().items()}
        if wrong := sorted(set(kept) ^ set(state_dict)):
            raise ConfigError(f'the weights to export are not those of this model: {some(wrong)} differ')
        # names are compared above, for SwinV2 takes what it makes itself out of any state dict that it loads
        distiller.load_state_dict(state_dict, strict=False)
        try:
            yield distiller.student
        finally:
            distiller.load_state_dict(kept, strict=False)


def _what_is_ours(plain: Config) -> str:
    """A line of comment on what the packages of OpenMMLab alone cannot build; nothing where they can."""
    named = [text for key, text in _texts(plain.to_dict()) if key == 'type' and text.startswith('mmsskd.')]
    names = ', '.join(dict.fromkeys(f'mmsskd.{text.rpartition(".")[2]}' for text in named))
    stock = plain.get('default_scope') or 'MMEngine'
    return f'# Stock {stock} cannot build {names}: they need the package mmsskd (custom_imports).\n' if named else ''


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
    meta = {name: getattr(runner, name) for name in ('epoch', 'iter', 'seed', 'experiment_name')}
    meta |= dict(time=time.strftime('%Y%m%d_%H%M%S'), mmengine_version=mmengine.__version__ + get_git_hash())
    names = getattr(runner.train_dataloader.dataset, 'metainfo', None)
    return dict(
        meta=dict(meta, cfg=runner.cfg.pretty_text, dataset_meta=names),
        state_dict=weights_to_cpu(model.state_dict()),
        message_hub=runner.message_hub.state_dict(),
        optimizer=runner.optim_wrapper.state_dict(),
        param_schedulers=[scheduler.state_dict() for scheduler in schedulers],
    )


def export_run(runner: Runner, distiller: nn.Module, plain: Config, loaders: Sequence[DataLoader]) -> None:
    """Write the plain student of a run that ends, with what hooks do to a checkpoint: an EMA puts its averaged weights in.

    Args:
        runner, distiller: Of the run.
        plain: Config of the student.
        loaders: Of the phases. Their data sets may know the names of the classes; without a validation set the last one gives the
            images on which what was written must answer as the student in memory.
    """
    checkpoint = whole_checkpoint(runner, distiller)
    for hook in runner.hooks:
        hook.before_save_checkpoint(runner, checkpoint)
    state, meta = checkpoint['state_dict'], dataset_meta(runner, loaders)
    validates = runner.val_loop is not None
    batch = _first_images(runner.val_loop.dataloader if validates else loaders[-1])
    with weights_of(distiller, state) as student:
        predict = validates and predicts_nothing(student) is None
        ask = None if batch is None else partial(answers, batch=batch, predict=predict)
        weights, config = export_student(state, plain, runner.work_dir, meta, ask, student)
    runner.logger.info(f'the plain student is in {weights} and {Path(config).name}; read back, it answers as before')


def _first_images(loader: DataLoader) -> dict | None:
    """Two images of a loader, or as many as it gives; in this process, as nothing else reads by now."""
    dataset = loader.dataset
    if not hasattr(dataset, '__getitem__') or not hasattr(dataset, '__len__'):
        return None
    count = min(loader.batch_size or 1, len(dataset), 2)
    return loader.collate_fn([dataset[i] for i in range(count)])


def export_checkpoint(
    path: str, out_dir: str, cfg_options: dict | None = None, formats: Sequence[str] = (), nms: bool = True
) -> tuple[str, ...]:
    """Export the student of any checkpoint of a stage-by-stage run; see :func:`export_student`.

    Its config is the one with which the run began, whatever has become of the files that it named.

    Args:
        path: The checkpoint.
        out_dir: As there.
        cfg_options: Changes of the config, by dotted keys: ``model.student.head.topk``, or those of data and evaluators.
        formats: Files to write too, which need neither OpenMMLab nor mmsskd: ``'onnx'`` and ``'pt2'``, the latter for torch.export.
            See :func:`~mmsskd.utils.portable.write_portable`.
        nms: Of a detector's: see there.

    Returns:
        The paths of ``student.pth``, ``student.py`` and of one file for each format.

    Raises:
        ConfigError: The file is missing, unreadable, or of another kind of run; or the student cannot be
            written in a format.
    """
    check_keys(dict.fromkeys(formats), FORMATS, 'formats')
    if 'onnx' in formats:
        check_onnx()
    checkpoint = read_checkpoint(path, 'checkpoint')
    if not {'stage_schedule', 'pins'} <= checkpoint.keys() or 'cfg' not in checkpoint.get('meta', {}):
        raise ConfigError(
            f'{path!r} was not written by a stage-by-stage run of this version; a plain checkpoint needs no export'
        )
    plain = config_of(checkpoint['pins']['student_config'], path)
    options = {}
    for key, value in (cfg_options or {}).items():
        if key.startswith('model.') and not key.startswith('model.student.'):
            raise ConfigError(f'--cfg-options: {key} is not of the student; its keys begin with model.student.')
        options[key.replace('model.student.', 'model.', 1)] = value
    with explaining('--cfg-options'):
        plain.merge_from_dict(options)
    imports = (plain.get('custom_imports') or {}).get('imports', ())
    read = Config.fromfile
    if not is_trusting():  # nothing that the checkpoint names is imported to look at it
        foreign = [each for each in imports if each.partition('.')[0] not in REGISTER_THEIR_OWN]
        read = None if foreign else lambda file: config_of(file.read_text(), str(file))
    paths = export_student(checkpoint['state_dict'], plain, out_dir, checkpoint['meta'].get('dataset_meta'), read=read)
    if not formats:
        return paths
    if read is None:
        raise ConfigError(
            f'{path!r} names code that would have to run for {" and ".join(formats)}: {", ".join(foreign)}; see --trust-checkpoint'
        )
    student = build_model(without_init(model_of(read(Path(paths[1])))), 'student.py').eval()
    load_strictly(student, paths[0], 'student.pth')
    shape = config_of(checkpoint['meta']['cfg'], path).model.get('input_shape') or DEFAULT_SHAPE
    if is_detector(student):
        shape = (shape[0], *image_size(plain))
    files = [os.path.join(out_dir, f'student.{each}') for each in formats]
    for file in files:
        write_portable(student, file, shape, nms=nms)
    return (*paths, *files)
