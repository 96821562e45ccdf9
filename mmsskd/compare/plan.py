"""The file that says what is compared: read, checked, and turned into values."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from mmengine.config import Config

from ..errors import ConfigError, candidates, check_keys, check_whole

KEYS = (
    'title', 'metric', 'scale', 'per_class', 'teacher', 'arms', 'plain', 'epochs', 'equal_seconds', 'seeds', 'search_seed',
    'val_interval', 'options',
)  # fmt: skip
ARM_KEYS = ('config', 'options', 'tries', 'plain', 'seeds')


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One way of training the student.

    Attributes:
        name: Shown in the tables.
        config: Path of a config: a plain one, or one of a :class:`~mmsskd.distill.distiller.StagewiseDistiller`.
        options: Changes of the config, as ``--cfg-options``.
        tries: Further changes of which the search takes the best on the validation split; empty: nothing to choose.
        plain: Name of the arm that is the plain student of this one.
        seeds: So many of the plan's, from the first on; None: all.
    """

    name: str
    config: str
    options: dict = field(default_factory=dict)
    tries: tuple[dict, ...] = ()
    plain: str
    seeds: int | None = None


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The arms, the teacher and the seeds that are compared.

    Attributes:
        title: Heading of the page.
        metric: Key of the task metric, on the validation and on the test set; more is better.
        scale: What the metric is multiplied by to be in points of 100.
        per_class: Key of the metric's values by class in the test metrics, or a pattern with ``{}`` for a class name; None: no
            comparison by class.
        teacher: Config of the teacher, trained once for each seed.
        teacher_options: Changes of it.
        teacher_checkpoint: A trained teacher in place of one for each seed.
        arms: In the order of the table.
        epochs: What every student trains for, all phases together.
        equal_seconds: Name of the arm whose seconds every arm gets in the second table; None: no second table.
        seeds: One run of each arm for each.
        search_seed: Of the runs that choose among ``tries``.
        val_interval: Epochs between two points of the accuracy curves.
        options: Changes of every config.

    Example:
        >>> arm = Arm(name='stage by stage', config='sskd.py', plain='plain.py')
        >>> plan = Plan(title='Mine', metric='accuracy/top1', teacher='teacher.py', arms=(arm,), epochs=10)
        >>> plan.tries, plan.seeds
        (1, (0, 1, 2))
    """

    title: str
    metric: str
    scale: float = 1.0
    per_class: str | None = None
    teacher: str
    teacher_options: dict = field(default_factory=dict)
    teacher_checkpoint: str | None = None
    arms: tuple[Arm, ...]
    epochs: int
    equal_seconds: str | None = None
    seeds: tuple[int, ...] = (0, 1, 2)
    search_seed: int = 100
    val_interval: int = 1
    options: dict = field(default_factory=dict)

    @property
    def tries(self) -> int:
        """Settings tried for each arm; 1 where nothing was searched."""
        return max((len(arm.tries) for arm in self.arms), default=0) or 1


def read_plan(path: str) -> Plan:
    """Read and check a file for tools/compare.py; paths in it count from the file's own folder.

    Raises:
        ConfigError: Anything wrong, with the key, what was found and what is allowed.
    """
    if not Path(path).is_file():
        near = sorted(str(file) for file in Path(path).parent.glob('*.py'))
        raise ConfigError(f'no file {path!r} in {Path.cwd()}; {candidates(path, near)}')
    try:
        cfg = Config.fromfile(path).to_dict()
    except Exception as error:
        raise ConfigError(f'cannot read {path!r}: {type(error).__name__}: {error}') from error
    return parse_plan(cfg, Path(path).parent, path)


def parse_plan(cfg: Mapping, folder: Path, where: str) -> Plan:
    """Check the contents of such a file; see :func:`read_plan`. Names that begin with ``_`` are the file's own."""
    cfg = {key: value for key, value in cfg.items() if not key.startswith('_')}
    check_keys(cfg, KEYS, where)
    for key in ('metric', 'teacher', 'arms', 'plain', 'epochs'):
        if key not in cfg:
            raise ConfigError(
                f'{where}: {key!r} is missing; a comparison needs metric, teacher, arms, plain and epochs'
            )
    for key, least in (('epochs', 1), ('val_interval', 1), ('search_seed', 0)):
        check_whole(f'{where}: {key}', cfg.get(key, least), least)
    for key in ('title', 'metric', 'per_class'):
        if (
            key in cfg
            and not (isinstance(cfg[key], str) and cfg[key])
            and not (key == 'per_class' and cfg[key] is None)
        ):
            raise ConfigError(f'{where}: {key} must be a text, found {cfg[key]!r}')
    scale = cfg.get('scale', 1.0)
    if isinstance(scale, bool) or not isinstance(scale, (int, float)) or not 0 < scale < float('inf'):
        raise ConfigError(
            f'{where}: scale must be a number above 0, by which the metric is in points of 100; found {scale!r}'
        )
    teacher = cfg['teacher']
    teacher = dict(config=teacher) if isinstance(teacher, str) else teacher
    check_keys(teacher, ('config', 'options', 'checkpoint'), f'{where}: teacher')
    arms_cfg = cfg['arms']
    if not isinstance(arms_cfg, Mapping) or not arms_cfg:
        raise ConfigError(f'{where}: arms must be a dict from names to dict(config=...), found {arms_cfg!r}')
    for name in arms_cfg:
        if not isinstance(name, str):
            raise ConfigError(f'{where}: arms: names are texts, found {name!r}')
    arms = tuple(_arm(name, arm, cfg['plain'], folder, f'{where}: arms[{name!r}]') for name, arm in arms_cfg.items())
    names = [arm.name for arm in arms]
    for arm in arms:
        if arm.plain not in names:
            raise ConfigError(f'{where}: plain: there is no arm {arm.plain!r}; {candidates(str(arm.plain), names)}')
    if cfg.get('equal_seconds') not in (None, *names):
        raise ConfigError(
            f'{where}: equal_seconds must name an arm; there is none {cfg["equal_seconds"]!r}; '
            f'{candidates(str(cfg["equal_seconds"]), names)}'
        )
    budgets = {len(arm.tries) for arm in arms}
    if len(budgets) > 1:
        found = ', '.join(f'{arm.name}: {len(arm.tries)}' for arm in arms)
        raise ConfigError(
            f'{where}: every arm must get as many tries as every other, found {found}; add or remove tries'
        )
    seeds = cfg.get('seeds', [0, 1, 2])
    if not isinstance(seeds, (list, tuple)) or not seeds or len(set(map(repr, seeds))) < len(seeds):
        raise ConfigError(f'{where}: seeds must be a list of different whole numbers, found {seeds!r}')
    for seed in seeds:
        check_whole(f'{where}: seeds', seed, 0)
    for arm in arms:
        if arm.seeds is not None and arm.seeds > len(seeds):
            raise ConfigError(
                f'{where}: arms[{arm.name!r}]: seeds={arm.seeds}, but the plan has {len(seeds)} ({seeds}): it is how many of these '
                'the arm runs with; add seeds to the plan, or leave it out for all of them'
            )
    return Plan(
        title=cfg.get('title', Path(where).stem),
        metric=cfg['metric'],
        scale=scale,
        per_class=cfg.get('per_class'),
        teacher=_config(teacher.get('config'), folder, f'{where}: teacher'),
        teacher_options=_options(teacher, f'{where}: teacher'),
        teacher_checkpoint=_checkpoint(teacher.get('checkpoint'), folder, f'{where}: teacher'),
        arms=arms,
        epochs=cfg['epochs'],
        equal_seconds=cfg.get('equal_seconds'),
        seeds=tuple(seeds),
        search_seed=cfg.get('search_seed', 100),
        val_interval=cfg.get('val_interval', 1),
        options=_options(cfg, where),
    )


def _arm(name: str, cfg, plain: str, folder: Path, where: str) -> Arm:
    cfg = dict(config=cfg) if isinstance(cfg, str) else cfg
    check_keys(cfg, ARM_KEYS, where)
    tries = cfg.get('tries') or ()
    if not isinstance(tries, (list, tuple)) or not all(isinstance(item, Mapping) for item in tries):
        raise ConfigError(f'{where}: tries must be a list of dicts of options, found {tries!r}')
    check_whole(f'{where}: seeds', cfg.get('seeds', 1), 1)
    return Arm(
        name=name,
        config=_config(cfg.get('config'), folder, where),
        options=_options(cfg, where),
        tries=tuple(map(dict, tries)),
        plain=cfg.get('plain', plain),
        seeds=cfg.get('seeds'),
    )


def _options(cfg: Mapping, where: str) -> dict:
    options = cfg.get('options', {})
    if not isinstance(options, Mapping) or not all(isinstance(key, str) for key in options):
        raise ConfigError(
            f"{where}: options must be a dict such as {{'optim_wrapper.optimizer.lr': 0.1}}, found {options!r}"
        )
    return dict(options)


def _config(path, folder: Path, where: str) -> str:
    if not isinstance(path, str):
        raise ConfigError(f'{where}: config must be the path of a config, found {path!r}')
    file = folder / path
    if not file.is_file():
        near = sorted(str(other.relative_to(file.parent)) for other in file.parent.glob('*.py'))
        raise ConfigError(f'{where}: no config {path!r} beside the file; {candidates(file.name, near)}')
    return str(file)


def _checkpoint(path, folder: Path, where: str) -> str | None:
    if path is None or '://' in str(path):
        return path
    file = folder / str(path)
    if not file.is_file():
        near = sorted(other.name for other in file.parent.glob('*.pth'))
        raise ConfigError(f'{where}: no checkpoint {path!r} beside the file; {candidates(file.name, near)}')
    return str(file)
