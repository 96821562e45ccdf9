"""Length of a run, and the same run longer or shorter."""

from collections.abc import Sequence

import torch
from mmengine.config import Config, ConfigDict

from ..distill.build import build_model, resolve_model_cfg, without_init
from ..distill.export import is_stagewise
from ..distill.network.stages import find_stages
from ..distill.phases import loop_unit, named_schedule, phases_of, schedule_hook
from ..errors import ConfigError

_names: dict[str, list[str]] = {}  # by student: the arms of a comparison share one, which takes a second to build


def phase_epochs(cfg: Config, stages: Sequence[str] | None = None) -> list[int]:
    """Epochs of each phase; one entry for a plain run.

    Args:
        cfg: Of the run.
        stages: Names of the student's stages; None for a plain run.

    Raises:
        ConfigError: The run counts iterations, or a phase has no length.
    """
    if loop_unit(cfg.train_cfg) != 'epochs':
        raise ConfigError(
            'a comparison counts epochs, but the train loop of a config counts iterations: set by_epoch=True'
        )
    if not is_stagewise(cfg):
        length = cfg.train_cfg.get('max_epochs')
        if not isinstance(length, int) or length < 1:
            raise ConfigError(f'train_cfg.max_epochs must be a whole number of at least 1, found {length!r}')
        return [length]
    return [phase.length for phase in phases_of(cfg, stages)]


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
    hook, written = schedule_hook(cfg), []
    resolved = phases_of(cfg, stages)
    for phase, now, length in zip(named_schedule(hook.get('phases'), stages), resolved, epochs, strict=True):
        written.append(dict(phase, epochs=length))
        if now.param_scheduler and now.length != length:
            written[-1]['param_scheduler'] = _stretched(now.param_scheduler, now.length, length)
    hook['phases'] = written


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
        student = build_model(without_init(resolve_model_cfg(model.student, 'student', preprocessor)), 'model.student')
        _names[key] = [stage.name for stage in find_stages(student, stages, torch.zeros(1, *shape))]
    return _names[key]
