"""From the list of phases in a config to checked ones with all defaults resolved. A new kind of schedule is a new list."""

import copy
import re
from collections.abc import Sequence

from ..errors import ConfigError, candidates
from .phase import HEAD, LEVERS, Phase
from .phase_recipe import check_wrapper, default_optim_wrapper, inherit_wrapper, phase_length, phase_schedulers

WORDS = {'stages': 'every stage', 'all': 'every stage and the head'}
FIELDS = (
    'name', 'train', 'mimic', 'task_loss', 'epochs', 'iters', 'optim_wrapper', 'param_scheduler', 'train_dataloader',
    'head_from_teacher', 'logits', 'task_weight', 'prefix', 'reload_best', 'recalibrate_bn',
)  # fmt: skip
RECIPE_FIELDS = ('epochs', 'iters', 'optim_wrapper', 'param_scheduler', 'train_dataloader')


def stage_by_stage(stages: Sequence[str]) -> list[dict]:
    """SSKD to the letter (https://arxiv.org/abs/1812.01819): each stage alone, then the head from ground truth."""
    return [dict(train=[stage]) for stage in stages] + [dict(train=[HEAD])]


def stages_kept(stages: Sequence[str]) -> list[dict]:
    """The same with the earlier stages, and their mimic losses, kept: a stage joins those before it, as in progressive training."""
    kept = [dict(name=stage, train=list(stages[: i + 1])) for i, stage in enumerate(stages)]
    return [*kept, dict(train=[HEAD])]


def stages_then_all(stages: Sequence[str]) -> list[dict]:
    """Stage by stage as a start, the earlier ones kept; then backbone and head together from ground truth, without the teacher."""
    return [*stages_kept(stages)[:-1], dict(train=[*stages, HEAD])]


SCHEDULES = dict(sskd_literal=stage_by_stage, sskd_kept=stages_kept, sskd_then_all=stages_then_all)
# docs/results.md: what a stage has not learnt when it is frozen is lost for those behind it
DEFAULT_SCHEDULE = 'sskd_kept'


def named_schedule(phases: Sequence[dict] | str | None, stages: Sequence[str]) -> Sequence[dict]:
    """The list of phases behind a name; a list as it is.

    Raises:
        ConfigError: No schedule of that name.
    """
    if phases is not None and not isinstance(phases, str):
        return phases
    name = DEFAULT_SCHEDULE if phases is None else phases
    if name not in SCHEDULES:
        raise ConfigError(
            f'StageScheduleHook.phases: there is no schedule {name!r}; {candidates(name, SCHEDULES)}; or give a list of phases'
        )
    return SCHEDULES[name](stages)


def parse_phases(
    phases: Sequence[dict] | str | None,
    stages: Sequence[str],
    unit: str,
    transfer: dict | None = None,
    head: dict | None = None,
    run_optim_wrapper: dict | None = None,
    run_param_scheduler: dict | list | None = None,
) -> list[Phase]:
    """Check a schedule and resolve its defaults.

    Args:
        phases: Config dicts with the fields of :class:`Phase`, or a name in :data:`SCHEDULES`; None: the default one.
        stages: Stage names in order.
        unit: ``'epochs'`` or ``'iters'``, as the train loop counts.
        transfer: Recipe fields for phases without task loss.
        head: Recipe fields for phases with task loss.
        run_optim_wrapper, run_param_scheduler: The run's own, used by phases with task loss that have none.

    Raises:
        ConfigError: Anything wrong, with the number of the phase, what was found and what is allowed.
    """
    phases = named_schedule(phases, stages)
    if not isinstance(phases, (list, tuple)) or not phases:
        raise ConfigError(f'StageScheduleHook.phases must be a non-empty list of dicts, found {phases!r}')
    for name, recipe in (('transfer', transfer), ('head', head)):
        _check_keys(recipe or {}, RECIPE_FIELDS, f'StageScheduleHook.{name}')
    resolved: list[Phase] = []
    for number, cfg in enumerate(phases, 1):
        where = f'StageScheduleHook.phases, phase {number} of {len(phases)}'
        _check_keys(cfg, FIELDS, where)
        for key in ('task_loss', 'head_from_teacher', 'logits', 'reload_best'):
            if not isinstance(cfg.get(key, False), bool):
                raise ConfigError(f'{where}: {key} must be True or False, found {cfg[key]!r}')
        levers = {key: cfg.get(key, default) for key, default in LEVERS.items()}
        train = _parts(cfg.get('train'), [*stages, HEAD], f'{where}: train')
        task_loss = bool(cfg.get('task_loss', HEAD in train))
        mimic = _parts(
            cfg.get('mimic', [] if task_loss or levers['logits'] else [part for part in train if part != HEAD]),
            stages,
            f'{where}: mimic',
        )
        name = cfg.get('name') or _default_name(train, stages)
        if not re.fullmatch(r'[\w.+-]+', str(name)):
            raise ConfigError(f'{where}: name is part of file names: letters, digits, and . + - _ only; found {name!r}')
        where = f'{where} ({name})'
        _check_sense(train, mimic, task_loss, levers['logits'], stages, where)
        _check_levers(levers, train, mimic, task_loss, where)
        recipe = {**((head if task_loss else transfer) or {}), **cfg}
        length = phase_length(recipe, unit, where)
        optim_wrapper = recipe.get('optim_wrapper') or (run_optim_wrapper if task_loss else default_optim_wrapper())
        scheduler = recipe.get('param_scheduler')
        if scheduler is None and task_loss:
            scheduler = run_param_scheduler or []
        if not optim_wrapper:
            raise ConfigError(
                f'{where}: no optim_wrapper; give one in the phase, in StageScheduleHook.head, or in the run'
            )
        check_wrapper(optim_wrapper, where)
        resolved.append(
            Phase(
                name=name,
                train=train,
                mimic=mimic,
                task_loss=task_loss,
                begin=resolved[-1].end if resolved else 0,
                length=length,
                head_from_teacher=bool(cfg.get('head_from_teacher', False)),
                **levers,
                optim_wrapper=inherit_wrapper(optim_wrapper, run_optim_wrapper),
                param_scheduler=None if scheduler is None else phase_schedulers(scheduler, length, unit, where),
                train_dataloader=copy.deepcopy(recipe.get('train_dataloader')),
            )
        )
    return resolved


def _check_keys(cfg: dict, allowed: Sequence[str], where: str) -> None:
    if not isinstance(cfg, dict):
        raise ConfigError(f'{where} must be a dict with some of {", ".join(allowed)}, found {cfg!r}')
    for key in cfg:
        if key not in allowed:
            raise ConfigError(f'{where}: unknown field {key!r}; {candidates(key, allowed)}')


def _parts(value, allowed: Sequence[str], where: str) -> tuple[str, ...]:
    """A list of part names, or one name, or a word for several; returned in execution order."""
    names = [value] if isinstance(value, str) else value
    if names is None or not isinstance(names, (list, tuple)) or (where.endswith('train') and not names):
        raise ConfigError(
            f'{where} must name at least one of {", ".join(allowed)} (or {", ".join(WORDS)}), found {value!r}'
        )
    chosen: set[str] = set()
    for name in names:
        if isinstance(name, str) and name in WORDS:
            chosen |= {part for part in allowed if name == 'all' or part != HEAD}
        elif isinstance(name, str) and name in allowed:
            chosen.add(name)
        else:
            raise ConfigError(f'{where}: unknown stage {name!r}; {candidates(str(name), [*allowed, *WORDS])}')
    return tuple(part for part in allowed if part in chosen)


def _default_name(train: tuple[str, ...], stages: Sequence[str]) -> str:
    if len(train) == len(stages) + 1:
        return 'all'
    return 'stages' if train == tuple(stages) and len(stages) > 1 else '+'.join(train)


def _check_sense(train, mimic, task_loss: bool, logits: bool, stages: Sequence[str], where: str) -> None:
    """Every trained part must get a gradient, and every loss must have something to train."""
    order = {stage: index for index, stage in enumerate(stages)}
    if not task_loss and not logits:
        if HEAD in train:
            raise ConfigError(
                f'{where}: trains the head without the task loss, nothing would reach it; set task_loss=True or logits=True'
            )
        if not mimic:
            raise ConfigError(
                f'{where}: neither mimics a stage nor has the task loss; set mimic, logits=True or task_loss=True'
            )
        beyond = [part for part in train if order[part] > order[mimic[-1]]]
        if beyond:
            raise ConfigError(f'{where}: trains {beyond}, but no loss reaches beyond {mimic[-1]!r}; add them to mimic')
    first = min((order[part] for part in train if part != HEAD), default=len(stages))
    for stage in mimic:
        if order[stage] < first:
            raise ConfigError(
                f'{where}: mimics {stage!r}, but nothing up to it trains; remove it from mimic or add it to train'
            )


def _check_levers(levers: dict, train, mimic, task_loss: bool, where: str) -> None:
    """The fields that change how a phase learns: their values, and what does not go together."""
    weight, prefix, batches = levers['task_weight'], levers['prefix'], levers['recalibrate_bn']
    if isinstance(weight, bool) or not isinstance(weight, (int, float)) or not 0 < weight < float('inf'):
        raise ConfigError(
            f'{where}: task_weight must be a number above 0, found {weight!r}; task_loss=False is without'
        )
    if weight != 1 and not task_loss:
        raise ConfigError(
            f'{where}: task_weight={weight}, but there is no task loss; set task_loss=True or leave it out'
        )
    if prefix not in ('student', 'teacher'):
        raise ConfigError(f"{where}: prefix must be 'student' or 'teacher', found {prefix!r}")
    if isinstance(batches, bool) or not isinstance(batches, int) or batches < 0:
        raise ConfigError(
            f'{where}: recalibrate_bn must be a number of training batches, 0 for none; found {batches!r}'
        )
    alone = not task_loss and not levers['logits']
    if prefix == 'teacher' and not (alone and train == mimic):
        raise ConfigError(
            f"{where}: with prefix='teacher' each stage learns from the teacher's features alone and passes no gradient on, so "
            f'what trains must be what is mimicked, without task_loss or logits; found train={list(train)}, '
            f'mimic={list(mimic)}, task_loss={task_loss}, logits={levers["logits"]}'
        )
    if levers['reload_best'] and not alone:
        raise ConfigError(
            f'{where}: reload_best goes by the error of the mimicked stages, but the phase also learns the task; leave it out and '
            'set save_best in default_hooks.checkpoint'
        )
    if levers['reload_best'] and batches:
        raise ConfigError(
            f'{where}: reload_best and recalibrate_bn exclude each other: what is reloaded was measured with the statistics that '
            'it had; leave one out'
        )
