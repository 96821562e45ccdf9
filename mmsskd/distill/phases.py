"""Phases: what each one trains, by which losses, for how long. From a config to checked values; a new schedule is a new list.

Neither torch nor a Runner is needed here, so that whoever asks for the phases of a run gets the same answer:
:func:`phases_of` serves the hook, the comparison and the benchmark.
"""

import copy
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from ..errors import ConfigError, candidates, check_keys
from ..registry import type_name

HEAD = 'head'  # everything of the student that is in no stage: a neck that is not named as one, and the heads
WORDS = {'stages': 'every stage', 'all': 'every stage and the head'}
GONE = {
    'prefix': 'measured at nothing; commit 2d8540c had it last',
    'reload_best': 'measured at nothing; commit 2d8540c had it last',
    'recalibrate_bn': 'measured at nothing; commit 2d8540c had it last',
    'head_from_teacher': "set model.init_from_teacher='head' (or 'all') instead",
}  # fields that a phase had


def _is_bool(value) -> bool:
    return isinstance(value, bool)


def _is_weight(value) -> bool:
    return not isinstance(value, bool) and isinstance(value, (int, float)) and 0 < value < float('inf')


def _is_name(value) -> bool:
    return re.fullmatch(r'[\w.+-]+', str(value)) is not None


def _is_dict(value) -> bool:
    return value is None or isinstance(value, Mapping)


def _is_loader(value) -> bool:
    return not value or (isinstance(value, Mapping) and isinstance(value.get('dataset'), Mapping))


def _field(
    rule: Callable[[Any], bool] | None = None,
    allowed: str = '',
    keys: tuple[str, ...] | None = None,
    recipe: bool = False,
    **options,
):
    """A field of a phase.

    Args:
        rule: What a value in a config must satisfy.
        allowed: The rule in words: the end of "NAME must be ...".
        keys: Under which keys a config gives the field. None: under its name.
        recipe: Whether ``transfer`` and ``head`` of the hook may give it for all their phases.
        options: Of :func:`dataclasses.field`.
    """
    return field(metadata=dict(rule=rule, allowed=allowed, keys=keys, recipe=recipe), **options)


@dataclass(frozen=True, kw_only=True)
class Phase:
    """One phase of a schedule, resolved and checked. The only list of what a phase has.

    Attributes:
        name: Shown in logs and file names. Defaults to the parts that train.
        train: Parts that train: stage names and ``'head'``. All else is frozen to the bit.
        mimic: Stages whose features follow the teacher's. Defaults to the stages in ``train`` where nothing else is learned.
        task_loss: Whether the student's own loss on ground truth counts. Defaults to whether the head trains.
        logits: Whether the student's logits follow the teacher's (``model.logits`` says where they are).
        task_weight: Factor on the student's own loss, above 0.
        begin: First epoch or iteration of the phase, as the train loop counts. Follows from the phases before.
        length: Epochs or iterations of the phase; ``epochs`` or ``iters`` in a config.
        optim_wrapper: Config of the optimizer wrapper. Defaults to Adam without task loss (docs/design.md has the
            measurement against SGD), to the run's own with it. One without ``optimizer`` adds to that default:
            ``dict(clip_grad=dict(max_norm=1))``.
        param_scheduler: Configs of the schedulers; lengths count from the beginning of the phase. None:
            :func:`default_param_scheduler`.
        train_dataloader: Config of the phase's own loader. None: the run's.

    Example:
        >>> phases_of(dict(train_cfg=dict(by_epoch=True)), ['layer1', 'layer2'],
        ...           hook=dict(phases=[dict(train='layer1', epochs=2), dict(train='stages', epochs=3)]))[1].mimic
        ('layer1', 'layer2')
    """

    name: str = _field(_is_name, 'letters, digits, and . + - _ only, as it is part of file names')
    train: tuple[str, ...] = _field()
    mimic: tuple[str, ...] = _field()
    task_loss: bool = _field(_is_bool, 'True or False')
    logits: bool = _field(_is_bool, 'True or False', default=False)
    task_weight: float = _field(_is_weight, 'a number above 0 (task_loss=False is without)', default=1.0)
    begin: int = _field(keys=())
    length: int = _field(keys=('epochs', 'iters'), recipe=True)
    optim_wrapper: dict = _field(_is_dict, 'a dict', recipe=True, default_factory=dict)
    param_scheduler: list | None = _field(recipe=True, default=None)
    train_dataloader: dict | None = _field(
        _is_loader, 'the config of a data loader, a dict with a `dataset`, a dict', recipe=True, default=None
    )

    @property
    def end(self) -> int:
        """First epoch or iteration after the phase."""
        return self.begin + self.length

    @property
    def learns_task(self) -> bool:
        """Whether the outputs of the student are learned, from ground truth or from the teacher's logits."""
        return self.task_loss or self.logits

    @property
    def purpose(self) -> str:
        """The phase in words."""
        weight = '' if self.task_weight == 1 else f' (weight {self.task_weight})'
        goals = [f'mimics {", ".join(self.mimic)}'] if self.mimic else []
        goals += ["follows the teacher's logits"] if self.logits else []
        goals += [f'learns the task{weight}'] if self.task_loss else []
        return f'trains {", ".join(self.train)}, {" and ".join(goals)}'

    def fingerprint(self) -> dict:
        """The values that must be the same for a checkpoint taken in or after this phase to be resumed."""
        return dict(
            name=self.name,
            train=list(self.train),
            mimic=list(self.mimic),
            task_loss=self.task_loss,
            task_weight=self.task_weight,
            logits=self.logits,
            length=self.length,
            optimizer=repr(_plain(self.optim_wrapper)),
            schedule=repr(_plain(self.param_scheduler)),
        )


def _keys_of(recipe: bool = False) -> list[str]:
    """The keys that a config of a phase may have, or one of ``transfer`` and ``head``."""
    chosen = [each for each in fields(Phase) if each.metadata['recipe'] or not recipe]
    return [
        key for each in chosen for key in ((each.name,) if each.metadata['keys'] is None else each.metadata['keys'])
    ]


# -- schedules -------------------------------------------------------------------------------------------------------


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
# docs/results.md: what a stage has not learned when it is frozen is lost for those after it
DEFAULT_SCHEDULE = 'sskd_kept'


def named_schedule(phases: Sequence[dict] | str | None, stages: Sequence[str]) -> Sequence[dict]:
    """The list of phases that a name stands for; a list as it is.

    Raises:
        ConfigError: No schedule of that name, or no list of dicts.
    """
    if phases is None or isinstance(phases, str):
        name = DEFAULT_SCHEDULE if phases is None else phases
        if name not in SCHEDULES:
            raise ConfigError(
                f'StageScheduleHook.phases: there is no schedule {name!r}; {candidates(name, SCHEDULES)}; or give a list of phases'
            )
        return SCHEDULES[name](stages)
    if not isinstance(phases, (list, tuple)) or not phases:
        raise ConfigError(f'StageScheduleHook.phases must be a non-empty list of dicts, found {phases!r}')
    return phases


# -- from a config to phases -----------------------------------------------------------------------------------------


def phases_of(cfg: Mapping, stages: Sequence[str], hook: Mapping | None = None) -> list[Phase]:
    """Check the schedule of a run and resolve its defaults.

    Args:
        cfg: Config of the run; looked at are ``train_cfg``, ``optim_wrapper``, ``param_scheduler`` and the hooks.
        stages: Names of the student's stages, in order.
        hook: Config of its :class:`~mmsskd.StageScheduleHook`. None: the one among its hooks.

    Raises:
        ConfigError: Anything wrong, with the number of the phase, what was found and what is allowed.
    """
    hook = schedule_hook(cfg) if hook is None else hook
    unit, own = loop_unit(cfg.get('train_cfg')), (cfg.get('optim_wrapper'), cfg.get('param_scheduler'))
    phases = named_schedule(hook.get('phases'), stages)
    recipes = {}
    for name in ('transfer', 'head'):
        recipes[name] = {} if hook.get(name) is None else hook[name]
        check_keys(recipes[name], _keys_of(recipe=True), f'StageScheduleHook.{name}')
    resolved: list[Phase] = []
    for number, phase in enumerate(phases, 1):
        where = f'StageScheduleHook.phases, phase {number} of {len(phases)}'
        begin = resolved[-1].end if resolved else 0
        resolved.append(_resolve(phase, recipes, stages, unit, begin, own, where))
    return resolved


def _resolve(cfg, recipes: dict, stages: Sequence[str], unit: str, begin: int, own: tuple, where: str) -> Phase:
    """Resolve one phase, with all defaults filled in; ``own`` are the optimizer wrapper and the schedulers of the run."""
    check_keys(cfg, _keys_of(), where, GONE)
    _check_rules(cfg, where)
    train = _parts(cfg.get('train'), [*stages, HEAD], f'{where}: train')
    task_loss, logits = cfg.get('task_loss', HEAD in train), cfg.get('logits', False)
    own_features = [] if task_loss or logits else [part for part in train if part != HEAD]
    mimic = _parts(cfg.get('mimic', own_features), stages, f'{where}: mimic')
    name = cfg.get('name') or _default_name(train, stages)
    where = f'{where} ({name})'
    _check_losses(cfg, train, mimic, task_loss, logits, stages, where)
    run_optim_wrapper, run_param_scheduler = own
    shared = recipes['head' if task_loss else 'transfer']
    recipe = {**shared, **cfg}
    _check_rules(recipe, where)
    length = _length(recipe, unit, where)
    default = run_optim_wrapper if task_loss else default_optim_wrapper()
    optim_wrapper = _merge_wrappers([cfg.get('optim_wrapper'), shared.get('optim_wrapper'), default])
    scheduler = recipe.get('param_scheduler')
    if scheduler is None and task_loss:
        scheduler = run_param_scheduler or []
    if not optim_wrapper:
        raise ConfigError(f'{where}: no optim_wrapper; give one in the phase, in StageScheduleHook.head, or in the run')
    check_wrapper(optim_wrapper, where)
    return Phase(
        name=name,
        train=train,
        mimic=mimic,
        task_loss=task_loss,
        logits=logits,
        task_weight=cfg.get('task_weight', 1.0),
        begin=begin,
        length=length,
        optim_wrapper=_inherit_wrapper(optim_wrapper, run_optim_wrapper),
        param_scheduler=None if scheduler is None else _schedulers(scheduler, length, unit, where),
        train_dataloader=copy.deepcopy(recipe.get('train_dataloader')),
    )


def loader_keys(phases: Sequence[Phase]) -> list[str]:
    """Keys of the config under which the loaders of the phases stand, for messages."""
    return [
        f'train_dataloader of phase {number} ({phase.name})' if phase.train_dataloader else 'train_dataloader'
        for number, phase in enumerate(phases, 1)
    ]


def is_stagewise(cfg: Mapping) -> bool:
    """Whether ``cfg`` is the config of a stage-by-stage run."""
    return type_name(cfg.get('model')) == 'StagewiseDistiller'


def is_schedule_hook(hook) -> bool:
    """Whether a hook's config is that of the stage schedule."""
    return type_name(hook) == 'StageScheduleHook'


def schedule_hook(cfg: Mapping) -> dict:
    """The config of the StageScheduleHook among the hooks of a run.

    Raises:
        ConfigError: There is none.
    """
    hooks = [*(cfg.get('default_hooks') or {}).values(), *(cfg.get('custom_hooks') or [])]
    found = [hook for hook in hooks if is_schedule_hook(hook)]
    if not found:
        raise ConfigError(
            "the config has no schedule; add default_hooks = dict(stage_schedule=dict(type='mmsskd.StageScheduleHook', ...))"
        )
    return found[0]


def loop_unit(train_cfg: Mapping | None) -> str:
    """``'epochs'`` or ``'iters'``: what the train loop of a config counts."""
    train_cfg = train_cfg or {}
    by_iter = not train_cfg.get('by_epoch', True) or 'max_iters' in train_cfg or 'Iter' in str(train_cfg.get('type'))
    return 'iters' if by_iter else 'epochs'


def _check_rules(cfg: Mapping, where: str) -> None:
    """Check each value against the rule beside its field."""
    for each in fields(Phase):
        rule = each.metadata['rule']
        if rule is not None and cfg.get(each.name) is not None and not rule(cfg[each.name]):
            raise ConfigError(f'{where}: {each.name} must be {each.metadata["allowed"]}, found {cfg[each.name]!r}')


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


def _check_losses(cfg: Mapping, train, mimic, task_loss: bool, logits: bool, stages: Sequence[str], where: str) -> None:
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
    if cfg.get('task_weight', 1) != 1 and not task_loss:
        raise ConfigError(
            f'{where}: task_weight={cfg["task_weight"]}, but there is no task loss; set task_loss=True or remove task_weight'
        )


# -- the recipe of a phase -------------------------------------------------------------------------------------------


OPTIMIZER_DEFAULTS = dict(lr=1e-3, momentum=0.0, weight_decay=0.0)  # for what a config leaves to the optimizer
MOST_DECAY = 0.02  # recipes of OpenMMLab stay below 0.002


def default_optim_wrapper() -> dict:
    """Adam for phases without task loss; docs/design.md has the measurement against SGD."""
    return dict(optimizer=dict(type='Adam', lr=0.01))


def default_param_scheduler(iterations: int) -> list[dict]:
    """Schedulers of phases without task loss: a linear warm-up over the first tenth, then a cosine to zero."""
    warm_up = max(iterations // 10, 1)
    return [
        dict(type='LinearLR', start_factor=0.04, by_epoch=False, begin=0, end=warm_up),
        dict(type='CosineAnnealingLR', eta_min=0.0, by_epoch=False, begin=warm_up, end=max(iterations, warm_up + 1)),
    ]


def _length(recipe: Mapping, unit: str, where: str) -> int:
    """The length of the phase, in the unit of the train loop."""
    other = 'iters' if unit == 'epochs' else 'epochs'
    value = recipe.get(unit)
    if value is None:
        found = f', found {other}={recipe[other]}' if recipe.get(other) is not None else ''
        loop = 'epoch' if unit == 'epochs' else 'iteration'
        raise ConfigError(
            f'{where}: this run has an {loop}-based train loop, so the phase needs `{unit}`{found}; '
            'give it in the phase, or for several in StageScheduleHook.transfer or head'
        )
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ConfigError(
            f'{where}: {unit} must be a whole number of at least 1, found {value!r}; remove the phase to skip it'
        )
    return value


def _merge_wrappers(wrappers: Sequence[Mapping | None]) -> dict:
    """The first wrapper; without an ``optimizer``, such as ``dict(accumulative_counts=2)``, it adds to the next one."""
    merged: dict = {}
    for wrapper in wrappers:
        merged = {**(wrapper or {}), **merged}
        if 'optimizer' in merged or 'OptimWrapper' not in str(merged.get('type', 'OptimWrapper')):
            break
    return merged


def _inherit_wrapper(optim_wrapper: Mapping, run_optim_wrapper: Mapping | None) -> dict:
    """The phase's wrapper; mixed precision in the run, such as by --amp, holds in all phases."""
    wrapper, run = copy.deepcopy(dict(optim_wrapper)), run_optim_wrapper or {}
    if 'Amp' in str(run.get('type')) and type_name(wrapper) in ('', 'OptimWrapper'):
        wrapper['type'] = run['type']
        for key in ('loss_scale', 'dtype'):
            if key in run:
                wrapper.setdefault(key, run[key])
    return wrapper


def check_wrapper(wrapper, where: str) -> None:
    """Refuse what is not the config of an optimizer wrapper.

    Raises:
        ConfigError: Its optimizer has no type, or numbers with which nothing can be learned.
    """
    optimizer = wrapper.get('optimizer') if isinstance(wrapper, Mapping) else None
    kind = optimizer.get('type') if isinstance(optimizer, Mapping) else None
    if not (isinstance(kind, str) or callable(kind)):
        raise ConfigError(
            f'{where}: optim_wrapper must have the form dict(optimizer=dict(type=..., lr=...)), found {wrapper!r}'
        )
    where = f'{where}: optim_wrapper.optimizer'
    rate, momentum, decay = (optimizer.get(key, default) for key, default in OPTIMIZER_DEFAULTS.items())
    if not _is_weight(rate):
        raise ConfigError(
            f'{where}.lr must be a number above 0, found {rate!r}; what is to stay as it is, leave out of `train`'
        )
    if isinstance(momentum, (int, float)) and not 0 <= momentum < 1:
        raise ConfigError(f'{where}.momentum must be a number from 0 to below 1, found {momentum!r}')
    if isinstance(decay, (int, float)) and rate * decay > MOST_DECAY:
        raise ConfigError(
            f'{where}: weight_decay={decay} with lr={rate} takes {rate * decay:.0%} off each weight in each step, which drives '
            f'the weights to 0 whatever the loss says; lower it until lr * weight_decay is below {MOST_DECAY}'
        )


def _schedulers(cfg, length: int, unit: str, where: str) -> list[dict]:
    """Scheduler configs with ``end`` at the end of the phase where it is not given."""
    items = cfg if isinstance(cfg, (list, tuple)) else [cfg] if cfg else []
    if not all(isinstance(item, Mapping) for item in items):
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


def _plain(value):
    """Configs as builtin types with sorted keys, so that equal ones have the same text."""
    if isinstance(value, Mapping):
        return {key: _plain(value[key]) for key in sorted(value, key=str)}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value
