"""How long a run is, and the same run longer or shorter."""

from collections.abc import Sequence

import torch
from mmengine.config import Config, ConfigDict

from ..distill.export import is_schedule_hook, is_stagewise
from ..distill.model_cfg import build_model, resolve_model_cfg
from ..distill.phases import named_schedule
from ..distill.stages import find_stages
from ..distill.teacher import without_init
from ..errors import ConfigError

_names: dict[str, list[str]] = {}  # by student: the arms of a comparison share one, which takes a second to build


def schedule_hook(cfg: Config) -> dict:
    """The config of the run's StageScheduleHook."""
    hooks = [*(cfg.get('default_hooks') or {}).values(), *(cfg.get('custom_hooks') or [])]
    return next(hook for hook in hooks if is_schedule_hook(hook))


def phase_epochs(cfg: Config, stages: Sequence[str] | None = None) -> list[int]:
    """Epochs of each phase; one entry for a plain run.

    Args:
        cfg: Of the run.
        stages: Names of the student's stages, which a schedule without a list of phases needs.

    Raises:
        ConfigError: The run counts iterations, or a phase has no length.
    """
    if not cfg.train_cfg.get('by_epoch', True) or 'max_iters' in cfg.train_cfg:
        raise ConfigError(
            'a comparison counts epochs, but the train loop of a config counts iterations: set by_epoch=True'
        )
    if not is_stagewise(cfg):
        length = cfg.train_cfg.get('max_epochs')
        if not isinstance(length, int) or length < 1:
            raise ConfigError(f'train_cfg.max_epochs must be a whole number of at least 1, found {length!r}')
        return [length]
    hook = schedule_hook(cfg)
    phases = named_schedule(hook.get('phases'), stages)
    if not isinstance(phases, (list, tuple)) or not all(isinstance(phase, dict) for phase in phases):
        raise ConfigError(f'StageScheduleHook.phases must be a list of dicts, found {phases!r}')
    lengths = [phase.get('epochs', _recipe(hook, phase).get('epochs')) for phase in phases]
    for number, length in enumerate(lengths, 1):
        where = f'StageScheduleHook.phases, phase {number} of {len(phases)}'
        if length is None:
            raise ConfigError(f'{where} has no length: set epochs in it, in transfer or in head')
        if not isinstance(length, int) or length < 1:
            raise ConfigError(f'{where}: epochs must be a whole number of at least 1, found {length!r}')
    return lengths


def _learns(phase: dict) -> bool:
    return phase.get('task_loss', 'head' in phase.get('train', ()) or 'all' in phase.get('train', ()))


def _recipe(hook: dict, phase: dict) -> dict:
    return hook.get('head' if _learns(phase) else 'transfer') or {}


def stretch(epochs: Sequence[int], total: int) -> list[int]:
    """``epochs`` scaled to sum to ``total``, whole numbers of at least 1: the largest remainders are rounded up.

    Raises:
        ConfigError: There are more phases than epochs.
    """
    if total < len(epochs):
        raise ConfigError(f'{total} epochs are too few for {len(epochs)} phases, which take at least one each')
    spare = total - len(epochs)  # beyond the one that each has
    wishes = [max(total * length / sum(epochs) - 1, 0) for length in epochs]
    factor = spare / sum(wishes) if sum(wishes) else 0
    exact = [wish * factor for wish in wishes]
    result = [int(value) for value in exact]
    order = sorted(range(len(epochs)), key=lambda i: result[i] - exact[i])
    for i in order[: spare - sum(result)]:
        result[i] += 1
    return [1 + value for value in result]


def set_epochs(cfg: Config, epochs: Sequence[int], stages: Sequence[str] | None = None) -> None:
    """Give the phases of a run these lengths; what learning rates do at an epoch, they do at the same share of the new length."""
    before = phase_epochs(cfg, stages)
    own = cfg.get('param_scheduler')
    if not is_stagewise(cfg):
        cfg.train_cfg.max_epochs = epochs[0]
        if own:
            cfg.param_scheduler = _stretched(own, before[0], epochs[0])
        return
    hook, phases = schedule_hook(cfg), []
    for phase, was, length in zip(named_schedule(hook.get('phases'), stages), before, epochs, strict=True):
        schedulers = phase.get('param_scheduler') or _recipe(hook, phase).get('param_scheduler')
        schedulers = schedulers or (own if _learns(phase) else None)
        phases.append(dict(phase, epochs=length))
        if schedulers and was != length:
            phases[-1]['param_scheduler'] = _stretched(schedulers, was, length)
    hook['phases'] = phases


def _stretched(schedulers: dict | Sequence[dict], was: int, length: int) -> list[dict]:
    """Schedulers of ``was`` epochs for ``length``; what counts iterations, as a warm-up does, stays."""
    result = []
    for scheduler in [schedulers] if isinstance(schedulers, dict) else schedulers:
        scheduler = ConfigDict(scheduler)
        if scheduler.get('by_epoch', True):
            for key in ('begin', 'end', 'T_max'):
                if isinstance(scheduler.get(key), int):
                    scheduler[key] = max(round(scheduler[key] * length / was), 0 if key == 'begin' else 1)
            if 'milestones' in scheduler:
                scheduler.milestones = [max(round(epoch * length / was), 1) for epoch in scheduler.milestones]
        result.append(scheduler)
    return result


def stage_names(cfg: Config) -> list[str] | None:
    """Names of the student's stages; None where the run is a plain one."""
    if not is_stagewise(cfg):
        return None
    model = cfg.model
    preprocessor = cfg.get('data_preprocessor') or model.get('data_preprocessor')
    stages, shape = model.get('stages'), model.get('input_shape', (3, 224, 224))
    key = repr((model.student, preprocessor, stages, shape))
    if key not in _names:
        student = build_model(without_init(resolve_model_cfg(model.student, 'student', preprocessor)))
        _names[key] = [stage.name for stage in find_stages(student, stages, torch.zeros(1, *shape))]
    return _names[key]
