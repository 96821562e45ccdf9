"""Teacher and student: from a config and a checkpoint to a model, and what a model may offer to the method."""

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

import torch
from mmengine.config import Config, ConfigDict
from mmengine.config.utils import MODULE2PACKAGE
from mmengine.hub import get_config
from mmengine.logging import print_log
from mmengine.registry import MODELS, DefaultScope
from mmengine.runner.checkpoint import CheckpointLoader
from mmengine.utils import get_installed_path, is_installed
from torch import Tensor, nn

from ..errors import ConfigError, candidates, explaining, naming, some
from ..registry import type_name


class DistillableModel(Protocol):
    """A model that can be teacher or student: ``backbone`` and ``extract_feat``. The rest is optional, by default as written here.

    Any ``BaseModel`` of mmpretrain or mmdet has what is needed. A model of a new task may offer more, and needs nothing else
    from this package; :class:`~mmsskd.face.models.FaceRecognizer` does.

    Example:
        >>> from torch import nn
        >>> class Embedder(nn.Module):  # its neck is transferred, and is all that it needs to be measured
        ...     extra_stages, predicts_without_head = ('neck',), True
    """

    backbone: nn.Module
    extra_stages: Sequence[str] = ()
    """Paths of modules after the backbone that are stages too, where the config names no stages."""
    predicts_without_head: bool = False
    """Whether the task metric needs no head, as that of an embedding."""
    classifies_in_backbone: bool = False
    """Whether the backbone goes on to scores, as networks of other libraries do; the last stage then ends before them."""
    constant_parameters: Sequence[str] = ()
    """Of any module in the model: names of its parameters that are frozen by design, so that nobody is warned of them."""

    def extract_feat(self, inputs: torch.Tensor):
        """Run the model up to where its head begins. ``inputs``: preprocessed images, (N, C, H, W)."""

    def adopt_state_dict(self, state: dict) -> dict:
        """Turn a state dict under the names of another framework into one under the model's own names."""
        return state


def resolve_model_cfg(spec: str | dict, key: str, data_preprocessor: dict | None = None) -> ConfigDict:
    """Turn ``spec`` into a plain model config.

    Args:
        spec: One of

            - a path: ``'mmpretrain::resnet/resnet34_8xb32_in1k.py'`` or a local config file, whose ``model`` is taken;
            - a dict with ``cfg_path``: the same, with the other keys merged over that ``model``;
            - a model config dict with ``type``.
        key: The config key that holds ``spec``, for messages.
        data_preprocessor: Replaces the model's own, for models that keep it at the top level of a config (mmpretrain).

    Returns:
        The model config, with ``_scope_`` where a file named its ``default_scope`` or the type its package.

    Raises:
        ConfigError: The path does not exist, or there is no ``type``.
    """
    return resolve_with_imports(spec, key, data_preprocessor)[0]


def resolve_with_imports(
    spec: str | dict, key: str, data_preprocessor: dict | None = None
) -> tuple[ConfigDict, dict | None]:
    """The model config as of :func:`resolve_model_cfg`, and the ``custom_imports`` of the file that ``spec`` names, if any."""
    if isinstance(spec, str):
        spec = dict(cfg_path=spec)
    if not isinstance(spec, dict):
        raise ConfigError(f'model.{key} must be a config dict or the path of a config, found {spec!r}')
    spec = copy.deepcopy(ConfigDict(spec))
    path, imports = spec.pop('cfg_path', None), None
    if path is not None:
        cfg = read_config_at(path, key)
        imports = cfg.get('custom_imports')
        model = model_of(cfg)
        asked = spec.get('pretrained')
        if key == 'teacher' and (asked is True or (asked is False and 'pretrained' not in model)):
            spec.pop('pretrained')  # whether to take the weights of the zoo, see teacher_weights
        with explaining(f'model.{key}: cannot be merged over the model of {path!r}'):
            merged = Config(dict(model=model))
            merged.merge_from_dict(dict(model=spec), allow_list_keys=False)
            spec = merged.model
    if 'type' not in spec:
        raise ConfigError(f'model.{key} has neither `type` nor `cfg_path`, found the keys {sorted(spec)}')
    if not isinstance(spec.type, str) and not callable(spec.type):
        raise ConfigError(f'model.{key}.type must be the name of a model; found {spec.type!r}')
    if type_name(spec) == 'StagewiseDistiller':
        found = spec.type if path is None else f'{path!r}'
        raise ConfigError(f'model.{key}: {found} is a whole stage-by-stage run; name the config of the {key} itself')
    if isinstance(spec.type, str) and '.' in spec.type:
        # what it holds is of the same package, unless it says otherwise
        spec.setdefault('_scope_', spec.type.split('.')[0])
    if data_preprocessor is not None:
        spec.data_preprocessor = copy.deepcopy(ConfigDict(data_preprocessor))
    return spec, imports


def model_of(cfg: Config) -> ConfigDict:
    """The model config of a whole one, with the scope and the preprocessor that a Runner would give it.

    A network of another library makes its own.
    """
    cfg.model.setdefault('_scope_', cfg.get('default_scope', 'mmengine'))
    if 'data_preprocessor' in cfg and type_name(cfg.model) != 'ExternalTeacher':
        cfg.model.setdefault('data_preprocessor', cfg.data_preprocessor)
    return cfg.model


def check_config_path(spec: str | dict, key: str) -> None:
    """Refuse a path of a config, as the spec of a model may be or have, at which there is no file.

    Raises:
        ConfigError: With near names.
    """
    path = spec.get('cfg_path') if isinstance(spec, dict) else spec
    where = f'model.{key}.cfg_path' if isinstance(spec, dict) else f'model.{key}'
    if path is None and isinstance(spec, dict):
        return
    if not isinstance(path, str):
        raise ConfigError(f'{where} must be the path of a config, found {path!r}')
    if '::' in path:
        package, relative = path.split('::', 1)
        if package not in MODULE2PACKAGE:
            raise ConfigError(f'{where}: unknown package in {path!r}; {candidates(package, MODULE2PACKAGE)}')
        if not is_installed(MODULE2PACKAGE[package]):  # mmengine would pip-install it without asking
            raise ConfigError(f'{where}: {path!r} needs {package}, which is not installed (docs/install.md)')
        folder = Path(get_installed_path(MODULE2PACKAGE[package])) / '.mim' / 'configs'
        if not (folder / relative).is_file():
            near = (folder / relative).parent
            files = near.glob('*.py') if near.is_dir() else folder.rglob('*.py')
            names = sorted(file.relative_to(folder).as_posix() for file in files)
            raise ConfigError(f'{where}: no config {path!r}; {candidates(relative, names)}')
    elif not Path(path).is_file():
        names = sorted(str(file) for file in Path(path).parent.glob('*.py'))
        library = (
            f"; a model of another library is no config but teacher=dict(type='mmsskd.ExternalTeacher', build={path!r}, ...)"
            if key == 'teacher' and ':' in path and '://' not in path
            else ''
        )
        raise ConfigError(f'{where}: no config file {path!r} in {Path.cwd()}; {candidates(path, names)}{library}')


def read_config_at(path: str, key: str) -> Config:
    """The config file at ``path`` (``pkg::relative/path.py`` or local), with a message that lists near names if missing."""
    check_config_path(dict(cfg_path=path), key)
    with explaining(f'model.{key}.cfg_path: cannot read the config {path!r}'):
        cfg = get_config(path) if '::' in path else Config.fromfile(path)
    if not isinstance(cfg.get('model'), dict):
        raise ConfigError(f'model.{key}.cfg_path: the config {path!r} has no `model`')
    return cfg


def build_model(cfg: ConfigDict, key: str = 'model') -> nn.Module:
    """Build a resolved model config under its own scope, without touching the caller's config.

    Args:
        cfg: See :func:`resolve_model_cfg`.
        key: Where it came from, for messages: ``model.student``.

    Raises:
        ConfigError: It cannot be built; the message names the part.
    """
    built = copy.deepcopy(cfg)
    scope = cfg.get('_scope_')
    with naming(cfg, key):
        if scope is None:
            return MODELS.build(built)
        # BaseDataPreprocessor and the like are built by the model itself, outside the registry's own scope switch
        with DefaultScope.overwrite_default_scope(scope):
            return MODELS.build(built)


def check_file(path: str, key: str) -> None:
    """Refuse what is neither a URL nor a file that is there.

    Raises:
        ConfigError: With near names.
    """
    if not isinstance(path, (str, Path)):
        raise ConfigError(f'{key} must be a file or URL, found {path!r}')
    if '://' not in str(path) and not Path(path).is_file():
        near = sorted(str(file) for file in Path(path).parent.glob('*.pth'))
        raise ConfigError(f'{key}: no file {str(path)!r} in {Path.cwd()}; {candidates(str(path), near)}')


def read_checkpoint(path: str, key: str) -> dict:
    """The checkpoint at ``path``, a file or URL, on the CPU; ``key`` is what the user set it with, for messages.

    Raises:
        ConfigError: The file is missing or unreadable, or holds more than data.
    """
    check_file(path, key)
    path = str(path)
    try:
        checkpoint = CheckpointLoader.load_checkpoint(path, map_location='cpu')
    except ConfigError as error:
        raise ConfigError(f'{key}: {error}') from error
    except Exception as error:
        reason = ': '.join([type(error).__name__, *str(error).splitlines()[:1]])
        hint = 'can this machine reach it?' if '://' in path else 'is the file truncated, or the download incomplete?'
        raise ConfigError(f'{key}: cannot read {path!r} as a checkpoint ({reason}); {hint}') from error
    if not isinstance(checkpoint, dict):
        raise ConfigError(f'{key}: {path!r} holds no state_dict, found {type(checkpoint).__name__}')
    return checkpoint


def misfits(state: dict, own: dict) -> list[str]:
    """List the names, shapes and values of ``state`` that the state dict ``own`` cannot take; a line for each kind."""
    missing = [name for name in own if name not in state and not name.endswith('num_batches_tracked')]
    unexpected = [name for name in state if name not in own and not _is_second_name(name, state, own)]
    common = [name for name in own if name in state and torch.is_tensor(state[name])]
    shapes = [
        f'{name} {tuple(state[name].shape)} (model: {tuple(own[name].shape)})'
        for name in common
        if state[name].shape != own[name].shape
    ]
    wild = not_finite({name: state[name] for name in common})
    kinds = {'missing': missing, 'unexpected': unexpected, 'other shape': shapes, 'not finite': wild}
    return [f'{label} ({len(names)}): {some(names, 8)}' for label, names in kinds.items() if names]


def not_finite(state: Mapping[str, torch.Tensor]) -> list[str]:
    """Names of the tensors that hold a NaN or an infinity. The device is waited for once where there are none."""
    values = {name: value.detach() for name, value in state.items() if value.is_floating_point()}
    if not values or torch.stack([value.isfinite().all() for value in values.values()]).all():
        return []
    return [name for name, value in values.items() if not value.isfinite().all()]


def _is_second_name(name: str, state: dict, own: dict) -> bool:
    """Whether a value is also there under a name that the model has, as a model saves it that borrows modules of itself while it
    trains (DDQ: ``decoder.aux_reg_branches`` is ``bbox_head.aux_reg_branches``)."""
    value, tail = state[name], name.split('.')[-2:]
    others = [state[other] for other in own if other in state and other.split('.')[-2:] == tail]
    return torch.is_tensor(value) and any(torch.is_tensor(other) and torch.equal(value, other) for other in others)


def load_strictly(model: nn.Module, path: str, key: str) -> dict:
    """Load the weights at ``path`` into ``model``; every name and every shape must match.

    Args:
        model: Receives the weights.
        path: File or URL of a checkpoint (``state_dict`` inside, or a bare state dict).
        key: What the user set ``path`` with, for messages: ``model.teacher_checkpoint``.

    Returns:
        The whole checkpoint.

    Raises:
        ConfigError: The file is missing or unreadable, or names or shapes differ; the message lists them.
    """
    checkpoint = read_checkpoint(path, key)
    state = checkpoint.get('state_dict', checkpoint)
    if not isinstance(state, dict) or not state or not all(isinstance(name, str) for name in state):
        found = sorted(map(str, state))[:8] if isinstance(state, dict) else type(state).__name__
        raise ConfigError(f'{key}: {path!r} holds no state_dict, found {found}')
    state = {name.removeprefix('module.'): value for name, value in state.items()}
    # not part of a model: old preprocessors kept their constants, a stage-by-stage run keeps what it has beside the student
    state = {name: value for name, value in state.items() if not name.startswith(('data_preprocessor.', *BESIDE))}
    if hasattr(model, 'adopt_state_dict'):  # a model that knows its weights under the names of another framework too
        state = model.adopt_state_dict(state)
    problems = misfits(state, model.state_dict())
    if problems:
        raise ConfigError(
            f'{key}: {path!r} does not fit the {type(model).__name__} that the config builds.\n  '
            + '\n  '.join(problems)
            + '\n  Name the checkpoint of this architecture and number of classes, or change the model config to match it.'
        )
    # strict above, except for BN's num_batches_tracked, which old files lack
    model.load_state_dict(state, strict=False)
    return checkpoint


def label_names(checkpoint: Mapping) -> tuple[str, ...]:
    """Names of the classes in the order of the labels; empty where a checkpoint does not say them for sure.

    mmdet writes the names of its config, and numbers labels by the annotation file: only for checkpoints of ours they are checked.
    """
    meta = checkpoint.get('meta') if isinstance(checkpoint.get('meta'), Mapping) else {}
    data = meta.get('dataset_meta') if isinstance(meta.get('dataset_meta'), Mapping) else {}
    names = data.get('classes') or meta.get('CLASSES')
    ours = 'mmsskd_version' in meta or 'stage_schedule' in checkpoint
    sure = ours or not any(name.startswith(DETECTION) for name in checkpoint.get('state_dict', ()))
    return tuple(map(str, names)) if sure and isinstance(names, (list, tuple)) else ()


def predicts_nothing(model: nn.Module) -> str | None:
    """Say why ``model`` has features but no predictions; None where it has."""
    if hasattr(model, 'target_generator') and not hasattr(model, 'predict'):  # mmpretrain's BaseSelfSupervisor
        return f'{type(model).__name__} is self-supervised, it has features but no predictions'
    if getattr(model, 'head', model) is None and not getattr(model, 'predicts_without_head', False):
        return f'{type(model).__name__} has no head, it has features but no predictions'
    return None


# what a checkpoint holds beside the student's own weights: modules of the distiller that train with their stages
BESIDE = ('adapters.', 'mimic_losses.', 'logits_loss.')
# how the names of weights of mmdet's heads begin
DETECTION = ('rpn_head.', 'roi_head.', 'bbox_head.', 'mask_head.', 'panoptic_head.')


def build_teacher(spec: str | dict, checkpoint: str | None) -> tuple[nn.Module, ConfigDict, tuple[str, ...]]:
    """Build the teacher with its weights, loaded strictly.

    Returns:
        The teacher in eval mode without gradients, its config, and the names of its classes as of :func:`label_names`.

    Raises:
        ConfigError: Nobody says where its weights are, or they do not fit; the message lists the keys.
    """
    cfg = resolve_model_cfg(spec, 'teacher')
    path, key = teacher_weights(spec, cfg, checkpoint)
    teacher = build_model(cfg if path is None else without_init(cfg), 'model.teacher')
    loaded = {} if path is None else load_strictly(teacher, path, key)
    teacher.eval().requires_grad_(False)
    trains = next((name or type(teacher).__name__ for name, module in teacher.named_modules() if module.training), None)
    if trains is not None:
        raise ConfigError(
            f'model.teacher: {trains} stays in training mode after eval(), so its features would change with each batch; let its '
            'train() obey'
        )
    count = sum(parameter.numel() for parameter in teacher.parameters()) / 1e6
    source = 'with weights that it brings itself' if path is None else f'from {path}'
    print_log(f'teacher: {type(teacher).__name__}, {count:.2f} M parameters, {source}', logger='current')
    return teacher, cfg, label_names(loaded)


def teacher_weights(spec: str | dict, cfg: ConfigDict, checkpoint: str | None) -> tuple[str | None, str]:
    """Say where the weights of the teacher are: a file or URL, or None where it brings them itself; and the key that says so.

    ``pretrained=True`` beside a ``cfg_path`` means those of the model zoo; in a model, those that it brings itself.

    Raises:
        ConfigError: Nobody says it, two do, or the zoo has none.
    """
    own = spec if isinstance(spec, dict) else {}
    asked = own.get('pretrained')
    if checkpoint and asked:
        raise ConfigError(
            f'model.teacher_checkpoint={checkpoint!r} and model.teacher.pretrained={asked!r} both name weights; remove one'
        )
    if checkpoint:
        return checkpoint, 'model.teacher_checkpoint'
    if asked is True and own.get('cfg_path') is not None:
        return _zoo_weights(own['cfg_path']), 'model.teacher.pretrained'
    if cfg.get('pretrained'):
        return None if cfg.pretrained is True else cfg.pretrained, 'model.teacher.pretrained'
    raise ConfigError(
        'model.teacher_checkpoint is not set; name the file or URL of its weights, or set pretrained=True in model.teacher, for '
        'those of the model zoo or those that the model brings itself'
    )


def _zoo_weights(path: str) -> str:
    """The address at which the zoo of ``package::config.py`` has its weights."""
    try:
        return get_config(path, pretrained=True).model_path
    except Exception as error:
        raise ConfigError(
            f'model.teacher.pretrained: no model zoo names weights for {path!r}; set model.teacher_checkpoint to a file or URL'
        ) from error


def without_init(cfg):
    """A copy of a model config in which nothing asks for pretrained weights: they would be fetched only to be overwritten."""
    if isinstance(cfg, dict):
        kept = {
            key: without_init(value)
            for key, value in cfg.items()
            if not (key == 'init_cfg' and isinstance(value, dict) and value.get('type') == 'Pretrained')
            and not (key == 'pretrained' and (isinstance(value, str) or value is True))
        }
        return ConfigDict(kept)
    if isinstance(cfg, (list, tuple)):
        return type(cfg)(without_init(item) for item in cfg)
    return cfg


# -- a student that starts from weights of its teacher ------------------------------------------------------------------


def weights_from_teacher(
    which: str | None,
    student: nn.Module,
    teacher: nn.Module,
    head: Mapping[str, Tensor],
    student_checkpoint: str | None,
) -> list[str]:
    """Names of the weights that the student takes over from the teacher.

    Args:
        which: ``model.init_from_teacher``: None, ``'head'`` or ``'all'``.
        student, teacher: The models.
        head: Parameters and buffers of the student's head.
        student_checkpoint: Another start of the whole student, if there is one.

    Raises:
        ConfigError: Another start is set too, the heads differ, or no parameter of the student is one of the teacher's.
    """
    if which not in (None, 'head', 'all'):
        raise ConfigError(f"model.init_from_teacher must be None, 'head' or 'all', found {which!r}")
    if which is None:
        return []
    teacher_state, student_state = teacher.state_dict(), student.state_dict()
    if which == 'head':
        problems = misfits({name: value for name, value in teacher_state.items() if name in head}, dict(head))
        if problems:
            raise ConfigError(
                "model.init_from_teacher='head', but the teacher's head does not fit the student's.\n  "
                + '\n  '.join(problems)
                + '\n  Give both the same head, or remove init_from_teacher.'
            )
        return list(head)
    if student_checkpoint:
        raise ConfigError(
            "model.init_from_teacher='all' and model.student_checkpoint both say where the student starts; remove one"
        )
    names = [name for name, _ in student.named_parameters()]
    shared = [
        name
        for name, value in teacher_state.items()
        if name in student_state and student_state[name].shape == value.shape
    ]
    if not set(names) & set(shared):
        raise ConfigError(
            "model.init_from_teacher='all': the teacher has no parameter with the name and shape of one of the student, such as "
            f'{names[0]} {tuple(student_state[names[0]].shape)}; it needs networks of the same kind and widths'
        )
    return shared


@torch.no_grad()
def copy_weights(student: nn.Module, teacher: nn.Module, names: Sequence[str]) -> None:
    """Copy the teacher's weights of these ``names`` into the student, and log how many."""
    if not names:
        return
    teacher_state, student_state = teacher.state_dict(), student.state_dict()
    for name in names:
        student_state[name].copy_(teacher_state[name])
    parameters = dict(student.named_parameters())
    count, total = sum(name in parameters for name in names), len(parameters)
    print_log(f"student: {count} of {total} parameters start as the teacher's", logger='current')
