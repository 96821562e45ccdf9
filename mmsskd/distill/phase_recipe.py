"""The recipe of a phase: its length, optimiser and schedulers, as the config writes them and as the Runner wants them."""

import copy

from ..errors import ConfigError


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


def phase_length(recipe: dict, unit: str, where: str) -> int:
    """How long the phase is, in the unit of the train loop."""
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


def inherit_wrapper(optim_wrapper: dict, run_optim_wrapper: dict | None) -> dict:
    """The phase's wrapper; mixed precision in the run, such as by --amp, holds in all phases."""
    wrapper, run = copy.deepcopy(dict(optim_wrapper)), run_optim_wrapper or {}
    if 'Amp' in str(run.get('type')) and wrapper.get('type', 'OptimWrapper') == 'OptimWrapper':
        wrapper['type'] = run['type']
        for key in ('loss_scale', 'dtype'):
            if key in run:
                wrapper.setdefault(key, run[key])
    return wrapper


def check_wrapper(wrapper, where: str) -> None:
    """Refuse what is not the config of an optimiser wrapper."""
    optimizer = wrapper.get('optimizer') if isinstance(wrapper, dict) else None
    if not isinstance(optimizer, dict) or 'type' not in optimizer:
        raise ConfigError(
            f'{where}: optim_wrapper must have the form dict(optimizer=dict(type=..., lr=...)), found {wrapper!r}'
        )


def phase_schedulers(cfg, length: int, unit: str, where: str) -> list[dict]:
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
