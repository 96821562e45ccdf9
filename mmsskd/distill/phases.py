"""A schedule is a list of phases, and a phase is a value: what trains, what is mimicked, whether the task loss counts, how long,
with which optimiser, schedule and data. The hook runs the list; a new kind of schedule is a new list in a config."""

import copy
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from ..errors import ConfigError, candidates

HEAD = 'head'  # everything of the student that is in no stage: a neck that is not named as one, and the heads
WORDS = {'stages': 'every stage', 'all': 'every stage and the head'}
FIELDS = (
    'name', 'train', 'mimic', 'task_loss', 'epochs', 'iters', 'optim_wrapper', 'param_scheduler', 'train_dataloader',
    'head_from_teacher',
)  # fmt: skip
RECIPE_FIELDS = ('epochs', 'iters', 'optim_wrapper', 'param_scheduler', 'train_dataloader')


@dataclass(frozen=True, kw_only=True)
class Phase:
    """One phase of a schedule, resolved and checked.

    Attributes:
        name: Shown in logs and file names.
        train: Parts that train: stage names and ``'head'``. All else is frozen to the bit.
        mimic: Stages whose features follow the teacher's.
        task_loss: Whether the student's own loss on ground truth counts.
        begin, length: In epochs or iterations of the whole run, as the train loop counts.
        head_from_teacher: Copy the teacher's head into the student's when the phase begins.
        optim_wrapper, param_scheduler, train_dataloader: The recipe, in MMEngine's config form; lengths count from the
            beginning of the phase. None: :func:`default_param_scheduler`, and the run's own loader.
    """

    name: str
    train: tuple[str, ...]
    mimic: tuple[str, ...]
    task_loss: bool
    begin: int
    length: int
    head_from_teacher: bool = False
    optim_wrapper: dict = field(default_factory=dict)
    param_scheduler: list | None = None
    train_dataloader: dict | None = None

    @property
    def end(self) -> int:
        """First epoch or iteration after the phase."""
        return self.begin + self.length

    @property
    def purpose(self) -> str:
        """What the phase is for, in words."""
        goals = [f'mimics {", ".join(self.mimic)}'] if self.mimic else []
        goals += ['learns the task'] if self.task_loss else []
        return f'trains {", ".join(self.train)}, {" and ".join(goals)}'

    def fingerprint(self) -> dict:
        """What must be the same for a checkpoint taken in or after this phase to be resumed."""
        return dict(
            name=self.name,
            head_from_teacher=self.head_from_teacher,
            train=list(self.train),
            mimic=list(self.mimic),
            task_loss=self.task_loss,
            length=self.length,
            optimizer=repr(_plain(self.optim_wrapper)),
            schedule=repr(_plain(self.param_scheduler)),
        )


def _plain(value):
    if isinstance(value, dict):
        return {key: _plain(value[key]) for key in sorted(value, key=str)}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value


def stage_by_stage(stages: Sequence[str]) -> list[dict]:
    """The default schedule, SSKD: each stage alone, then the head from ground truth."""
    return [dict(train=[stage]) for stage in stages] + [dict(train=[HEAD])]


def parse_phases(
    phases: Sequence[dict] | None,
    stages: Sequence[str],
    unit: str,
    transfer: dict | None = None,
    head: dict | None = None,
    run_optim_wrapper: dict | None = None,
    run_param_scheduler: dict | list | None = None,
) -> list[Phase]:
    """Check a schedule and resolve its defaults.

    Args:
        phases: Config dicts with the fields of :class:`Phase`; None: :func:`stage_by_stage`.
        stages: Stage names in order.
        unit: ``'epochs'`` or ``'iters'``, as the train loop counts.
        transfer: Recipe fields for phases without task loss.
        head: Recipe fields for phases with task loss.
        run_optim_wrapper, run_param_scheduler: The run's own, used by phases with task loss that have none.

    Raises:
        ConfigError: Anything wrong, with the number of the phase, what was found and what is allowed.
    """
    if phases is None:
        phases = stage_by_stage(stages)
    if not isinstance(phases, (list, tuple)) or not phases:
        raise ConfigError(f'StageScheduleHook.phases must be a non-empty list of dicts, found {phases!r}')
    for name, recipe in (('transfer', transfer), ('head', head)):
        _check_keys(recipe or {}, RECIPE_FIELDS, f'StageScheduleHook.{name}')
    resolved: list[Phase] = []
    for number, cfg in enumerate(phases, 1):
        where = f'StageScheduleHook.phases, phase {number} of {len(phases)}'
        _check_keys(cfg, FIELDS, where)
        for key in ('task_loss', 'head_from_teacher'):
            if not isinstance(cfg.get(key, False), bool):
                raise ConfigError(f'{where}: {key} must be True or False, found {cfg[key]!r}')
        train = _parts(cfg.get('train'), [*stages, HEAD], f'{where}: train')
        task_loss = bool(cfg.get('task_loss', HEAD in train))
        mimic = _parts(
            cfg.get('mimic', [] if task_loss else [part for part in train if part != HEAD]), stages, f'{where}: mimic'
        )
        name = cfg.get('name') or _default_name(train, stages)
        if not re.fullmatch(r'[\w.+-]+', str(name)):
            raise ConfigError(f'{where}: name is part of file names: letters, digits, and . + - _ only; found {name!r}')
        where = f'{where} ({name})'
        _check_sense(train, mimic, task_loss, stages, where)
        recipe = {**((head if task_loss else transfer) or {}), **cfg}
        length = _length(recipe, unit, where)
        optim_wrapper = recipe.get('optim_wrapper') or (run_optim_wrapper if task_loss else default_optim_wrapper())
        scheduler = recipe.get('param_scheduler')
        if scheduler is None and task_loss:
            scheduler = run_param_scheduler or []
        if not optim_wrapper:
            raise ConfigError(
                f'{where}: no optim_wrapper; give one in the phase, in StageScheduleHook.head, or in the run'
            )
        _check_wrapper(optim_wrapper, where)
        resolved.append(
            Phase(
                name=name,
                train=train,
                mimic=mimic,
                task_loss=task_loss,
                begin=resolved[-1].end if resolved else 0,
                length=length,
                head_from_teacher=bool(cfg.get('head_from_teacher', False)),
                optim_wrapper=_inherit_wrapper(optim_wrapper, run_optim_wrapper),
                param_scheduler=None if scheduler is None else _schedulers(scheduler, length, unit, where),
                train_dataloader=copy.deepcopy(recipe.get('train_dataloader')),
            )
        )
    return resolved


def default_optim_wrapper() -> dict:
    """Adam for transfer phases; docs/design.md has the measurement against SGD."""
    return dict(optimizer=dict(type='Adam', lr=0.01))


def default_param_scheduler(iterations: int) -> list[dict]:
    """For transfer phases: a linear warm-up over the first tenth, then a cosine to zero."""
    warm_up = max(iterations // 10, 1)
    return [
        dict(type='LinearLR', start_factor=0.04, by_epoch=False, begin=0, end=warm_up),
        dict(type='CosineAnnealingLR', eta_min=0.0, by_epoch=False, begin=warm_up, end=max(iterations, warm_up + 1)),
    ]


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


def _check_sense(train, mimic, task_loss: bool, stages: Sequence[str], where: str) -> None:
    """Every trained part must get a gradient, and every loss must have something to train."""
    order = {stage: index for index, stage in enumerate(stages)}
    if HEAD in train and not task_loss:
        raise ConfigError(f'{where}: trains the head without the task loss, nothing would reach it; set task_loss=True')
    if not task_loss:
        if not mimic:
            raise ConfigError(f'{where}: neither mimics a stage nor has the task loss; set mimic or task_loss=True')
        beyond = [part for part in train if order[part] > order[mimic[-1]]]
        if beyond:
            raise ConfigError(f'{where}: trains {beyond}, but no loss reaches beyond {mimic[-1]!r}; add them to mimic')
    first = min((order[part] for part in train if part != HEAD), default=len(stages))
    for stage in mimic:
        if order[stage] < first:
            raise ConfigError(
                f'{where}: mimics {stage!r}, but nothing up to it trains; remove it from mimic or add it to train'
            )


def _length(recipe: dict, unit: str, where: str) -> int:
    other = 'iters' if unit == 'epochs' else 'epochs'
    value = recipe.get(unit)
    if value is None:
        found = f', found {other}={recipe[other]}' if recipe.get(other) is not None else ''
        loop = 'epoch' if unit == 'epochs' else 'iteration'
        raise ConfigError(f'{where}: this run has an {loop}-based train loop, so the phase needs `{unit}`{found}')
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ConfigError(
            f'{where}: {unit} must be a whole number of at least 1, found {value!r}; leave the phase out to skip it'
        )
    return value


def _inherit_wrapper(optim_wrapper: dict, run_optim_wrapper: dict | None) -> dict:
    """The phase's wrapper; mixed precision in the run, such as by --amp, holds in all phases."""
    wrapper, run = copy.deepcopy(dict(optim_wrapper)), run_optim_wrapper or {}
    if 'Amp' in str(run.get('type')) and wrapper.get('type', 'OptimWrapper') == 'OptimWrapper':
        wrapper['type'] = run['type']
        for key in ('loss_scale', 'dtype'):
            if key in run:
                wrapper.setdefault(key, run[key])
    return wrapper


def _check_wrapper(wrapper, where: str) -> None:
    optimizer = wrapper.get('optimizer') if isinstance(wrapper, dict) else None
    if not isinstance(optimizer, dict) or 'type' not in optimizer:
        raise ConfigError(
            f'{where}: optim_wrapper must have the form dict(optimizer=dict(type=..., lr=...)), found {wrapper!r}'
        )


def _schedulers(cfg, length: int, unit: str, where: str) -> list[dict]:
    """Scheduler configs with ``end`` at the end of the phase where it is not given."""
    items = cfg if isinstance(cfg, (list, tuple)) else [cfg] if cfg else []
    if not all(isinstance(item, dict) for item in items):
        raise ConfigError(f'{where}: param_scheduler must be a dict or a list of dicts, found {cfg!r}')
    schedulers = [dict(item) for item in copy.deepcopy(items)]
    for scheduler in schedulers:
        if 'type' not in scheduler:
            raise ConfigError(f'{where}: a param_scheduler needs a type, found {scheduler}')
        by_epoch = scheduler.get('by_epoch', True)
        if by_epoch and unit == 'iters':
            raise ConfigError(
                f'{where}: {scheduler["type"]} counts epochs in an iteration-based run; set by_epoch=False'
            )
        if by_epoch or unit == 'iters':
            scheduler.setdefault('end', length)
            if scheduler.get('begin', 0) >= length:
                raise ConfigError(
                    f'{where}: {scheduler["type"]} begins at {scheduler["begin"]}, but the phase has only {length} {unit}, counted '
                    'from its own start; give the phase (or StageScheduleHook.head) a param_scheduler of its own'
                )
    return schedulers
