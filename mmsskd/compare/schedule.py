"""Length of a run, and the same run longer or shorter."""

from collections.abc import Sequence
from dataclasses import fields
from itertools import accumulate

from mmengine.config import Config, ConfigDict

from ..distill.network.pairing import Pairing
from ..distill.phases import is_stagewise, loop_unit, named_schedule, phases_of, schedule_hook
from ..errors import ConfigError
from ..registry import type_name

# Fields of schedulers: those that count epochs, with the least that each may be; lists of such; and those that count nothing
COUNTS = dict(begin=0, end=1, T_max=1, step_size=1, total_steps=1, patience=0, cooldown=0)
LISTS = ('milestones', 'periods')
NO_COUNTS = (
    'type', '_scope_', 'by_epoch', 'convert_to_iter_based', 'verbose', 'last_step', 'param_name', 'gamma', 'factor',
    'start_factor', 'end_factor', 'eta_min', 'eta_min_ratio', 'power', 'eta_max', 'pct_start', 'anneal_strategy', 'div_factor',
    'final_div_factor', 'three_phase', 'restart_weights', 'monitor', 'rule', 'threshold', 'threshold_rule', 'min_value', 'eps',
)  # fmt: skip
WARM_UPS = ('Linear', 'Constant', 'QuadraticWarmup')

_names: dict[str, list[str]] = {}  # by pair: the arms of a comparison share one, which takes seconds to build


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
    """Schedulers of ``was`` epochs for ``length``; a warm-up that counts iterations stays.

    Raises:
        ConfigError: One that cannot be stretched: it counts iterations, or has a field of which nobody knows what it counts.
    """
    schedulers = [schedulers] if isinstance(schedulers, dict) else list(schedulers)
    if length == was:
        return schedulers
    result = []
    for scheduler in schedulers:
        scheduler, kind = ConfigDict(scheduler), type_name(scheduler)
        counted = [key for key in scheduler if key in (*COUNTS, *LISTS) and key != 'begin']
        if not scheduler.get('by_epoch', True):
            if not kind.startswith(WARM_UPS) and (counted or kind.startswith('Exponential')):
                raise ConfigError(
                    f'param_scheduler: {kind} counts iterations ({", ".join(counted) or "gamma"}), so it cannot be stretched from '
                    f'{was} to {length} epochs; set by_epoch=True in it, with lengths in epochs, and convert_to_iter_based=True'
                )
            result.append(scheduler)
            continue
        unknown = [key for key in scheduler if key not in (*COUNTS, *LISTS, *NO_COUNTS)]
        if unknown:
            raise ConfigError(
                f'param_scheduler: {kind} has {unknown[0]!r}, of which the comparison does not know whether it counts epochs, so '
                f'it cannot be stretched from {was} to {length} epochs; give all arms the epochs of their configs, or take a '
                'scheduler of MMEngine'
            )
        share = length / was
        if kind.startswith('ReduceOnPlateau'):
            scheduler.setdefault('patience', 10)  # as MMEngine does
        if kind.startswith('Exponential'):
            scheduler.gamma **= 1 / share  # the decay of one epoch
        for key, least in COUNTS.items():
            if isinstance(scheduler.get(key), int):
                scheduler[key] = max(round(scheduler[key] * share), least)
        if 'milestones' in scheduler:
            scheduler.milestones = [max(round(epoch * share), 1) for epoch in scheduler.milestones]
        if 'periods' in scheduler:
            ends = [round(end * share) for end in accumulate(scheduler.periods)]
            scheduler.periods = [max(end - begin, 1) for begin, end in zip([0, *ends], ends)]
        result.append(scheduler)
    return result


def stage_names(cfg: Config) -> list[str] | None:
    """Names of the stages of the student that have one of the teacher; None where the run is a plain one."""
    if not is_stagewise(cfg):
        return None
    parts = ('student', 'teacher', 'projector', 'data_preprocessor', *(option.name for option in fields(Pairing)))
    key = repr([cfg.get('data_preprocessor'), *(cfg.model.get(part) for part in parts)])
    if key not in _names:
        student, teacher, pairing = Pairing.built(cfg)
        _names[key] = [*pairing.pair(student, teacher)[0]]
    return _names[key]
