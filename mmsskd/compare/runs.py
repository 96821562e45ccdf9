"""One training of a comparison: from a config to the numbers of its student, written to its work dir when all is done."""

import contextlib
import functools
import hashlib
import json
import os
import shutil
import statistics
import traceback
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mmengine.config import Config
from mmengine.runner import Runner
from torch import nn

from ..cli.loaders import complete_loaders
from ..distill.build import build_teacher, load_strictly, read_checkpoint, resolve_model_cfg
from ..distill.phases import is_stagewise, schedule_hook
from ..distill.schedule.data_checks import check_loops
from ..distill.schedule.mmengine_private import forget_managers
from ..distill.schedule.resume import GoOn, as_data, hash_of
from ..distill.teacher import give_own_input
from ..errors import ConfigError, NonFiniteLossError
from ..utils.files import write_text
from ..utils.trust import trust
from ..utils.work_dir import newest_checkpoint
from .checks import check_options
from .clock import SECONDS, ComparisonClock, read_curve
from .schedule import phase_epochs, set_epochs, stage_names, stretch
from .similarity import compare_features
from .workers import take_share

NEVER = 10**6
WEIGHTS = 'weights'  # file of a work dir that names weights elsewhere


@dataclass(frozen=True, kw_only=True)
class Run:
    """One training, as a value that travels to a worker process.

    Attributes:
        label: Shown while it runs.
        config: Path of the config.
        options: Changes of it.
        seed: Of the run.
        epochs: In all; None: as the config says.
        work_dir: Where everything of it goes.
        metric, per_class: As in :class:`~mmsskd.compare.plan.Plan`.
        val_interval: Epochs between points of the curve.
        measure: What is measured at the end: ``'test'``, the test set and the features; ``'val'``, the validation set, for
            the search; ``'seconds'``, nothing but the time of two epochs of each phase.
        checkpoint: Weights that are measured without any training.
        teacher: Work dir of the teacher's run; None: this is a teacher's.
        jobs: Runs that share the machine meanwhile; nothing but the seconds depends on it.
    """

    label: str
    config: str
    options: dict = field(default_factory=dict)
    seed: int
    epochs: int | None
    work_dir: str
    metric: str
    per_class: str | None = None
    val_interval: int = 1
    measure: str = 'test'
    checkpoint: str | None = None
    teacher: str | None = None
    jobs: int = 1

    @property
    def result_file(self) -> Path:
        return Path(self.work_dir) / 'result.json'

    def result(self) -> dict | None:
        """Read what an earlier call of this very run wrote; None where there is none, or where anything of it has changed."""
        result = _read(self.work_dir)
        return result if result and result.get('fingerprint') == self.fingerprint() else None

    def fingerprint(self) -> str:
        """Changes with all that the result depends on: the config's text, the student's that it names, its changes, the teacher.

        Not with the folders of the images and the place of a trained teacher, so that a result counts on another machine too.
        """
        cfg = Config.fromfile(self.config)
        student = resolve_model_cfg(cfg.model.student, 'student') if is_stagewise(cfg) else None
        teacher = _read(self.teacher).get('fingerprint', '') if self.teacher is not None else ''
        parts = (
            # as it is, and not as a version of a formatter lays it out
            without_folders(as_data([cfg.to_dict(), student, self.options])),
            self.seed,
            self.epochs,
            self.val_interval,
            self.metric,
            self.per_class,
            self.measure,
            self.checkpoint and _weights(self.checkpoint),
            teacher,
        )
        return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


def without_folders(value, folders: frozenset[str] | None = None):
    """A config as data in which no path begins with a folder that a ``data_root`` in it names."""
    if folders is None:
        folders = frozenset(folder.rstrip('/') for folder in _data_roots(value) if folder.rstrip('/'))
    if isinstance(value, Mapping):
        return {key: without_folders(item, folders) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [without_folders(item, folders) for item in value]
    if isinstance(value, str):
        begins = max((folder for folder in folders if f'{value}/'.startswith(f'{folder}/')), key=len, default='')
        return f'data_root/{value[len(begins) :].strip("/")}' if begins else value
    return value


def _data_roots(value) -> Iterator[str]:
    items = (
        value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, (list, tuple)) else ()
    )
    for key, item in items:
        if isinstance(item, str) and str(key).split('.')[-1] == 'data_root':
            yield item
        yield from _data_roots(item)


def _weights(checkpoint: str) -> str:
    """Tell the weights of a file from others; a URL does by itself."""
    return checkpoint if '://' in checkpoint else _hash_of_file(checkpoint, os.stat(checkpoint).st_mtime_ns)


@functools.lru_cache(maxsize=8)
def _hash_of_file(path: str, changed: int) -> str:
    content = read_checkpoint(path, 'teacher.checkpoint')
    return hash_of(content.get('state_dict', content))


def _read(work_dir: str) -> dict:
    """The result in a work dir; empty where there is none, or none that can be read: it is made again."""
    try:
        result = json.loads((Path(work_dir) / 'result.json').read_text())
    except (OSError, ValueError):
        return {}
    return result if isinstance(result, dict) else {}


@contextlib.contextmanager
def logged(run: Run) -> Iterator[None]:
    """Send all that is printed to the run's own log, the traceback of an error too, and drop what MMEngine keeps of the run.

    It keeps loggers, visualizers and the like by name, and hands them, with their files, to the next run that has such a name.
    """
    with (
        open(Path(run.work_dir) / 'run.log', 'a') as log,
        contextlib.redirect_stdout(log),
        contextlib.redirect_stderr(log),
    ):
        try:
            yield
        except Exception:
            traceback.print_exc(file=log)
            raise
        finally:
            forget_managers()


def execute(run: Run) -> dict:
    """Train, measure, and write ``result.json``; goes on from a checkpoint of an interrupted call of the same run.

    Returns:
        ``score`` (the metric on the test set, or on the validation set; None where a try of the search diverged), ``epochs``
        and ``seconds_per_epoch`` by phase, ``jobs``, ``curve`` ([epoch, metric] on the validation set), ``classes``, ``stages``
        (see :func:`compare_features`), ``parameters``.
    """
    folder, mark = Path(run.work_dir), Path(run.work_dir) / 'fingerprint'
    settings = run.fingerprint()  # before it reads its config, which somebody may edit while it trains
    if run.measure == 'seconds' or not mark.is_file() or mark.read_bytes() != settings.encode():
        shutil.rmtree(folder, ignore_errors=True)  # of other settings; and seconds are measured in one go
        folder.mkdir(parents=True)
        mark.write_text(settings)
    take_share(run.jobs)
    with logged(run):
        try:
            result = _train(run)
        except NonFiniteLossError as error:
            if run.measure != 'val':
                raise
            result = dict(
                label=run.label, seed=run.seed, score=None, diverged=str(error)
            )  # a try like any other, and a bad one
    keep_newest(folder)
    result['fingerprint'] = settings
    write_text(run.result_file, json.dumps(result, indent=1))
    return result


def build_config(run: Run) -> tuple[Config, list[int]]:
    """The config that is run, and the epochs of its phases.

    Raises:
        ConfigError: An option or a length that does not fit.
    """
    try:
        cfg = Config.fromfile(run.config)
    except Exception as error:
        raise ConfigError(f'cannot read {run.config!r}: {type(error).__name__}: {error}') from error
    for key in ('model', 'train_cfg'):
        if not isinstance(cfg.get(key), dict):
            raise ConfigError(f'{run.config}: a config needs a {key}, found the keys {sorted(cfg.keys())}')
    check_options(cfg.to_dict(), run.options)
    try:
        cfg.merge_from_dict(run.options)
    except Exception as error:
        raise ConfigError(f'options {run.options} do not fit {run.config}: {error}') from error
    complete_loaders(cfg)
    trust(cfg.get('trust_checkpoint'))
    stages = stage_names(cfg)
    epochs = phase_epochs(cfg, stages)
    if run.measure == 'seconds':
        epochs = [2] * len(epochs)
    elif run.epochs is not None:
        epochs = stretch(epochs, run.epochs)
    set_epochs(cfg, epochs, stages)
    cfg.randomness = dict(cfg.get('randomness') or {}, seed=run.seed)
    cfg.work_dir = run.work_dir
    cfg.experiment_name = '_'.join([*Path(run.work_dir).parts[-3:], str(os.getpid())])
    cfg.train_cfg.val_interval = run.val_interval if run.measure != 'seconds' else NEVER
    # to go on from, beside those of the clock: the last, and the one before it while that is written
    kept = dict(type='CheckpointHook', interval=max(sum(epochs) // 4, 1), max_keep_ckpts=2)
    cfg.default_hooks = dict(cfg.get('default_hooks') or {}, checkpoint=kept)
    if is_stagewise(cfg):
        schedule_hook(cfg).update(evaluate_teacher=False, save_phase_ends=False, stitched=False)
        cfg.model.teacher_checkpoint = weights_of(run.teacher)
    path = newest_checkpoint(run.work_dir) if run.checkpoint is None else None
    cfg.resume = path is not None
    cfg.load_from = path or cfg.get('load_from')  # what the config itself starts from
    return cfg, epochs


def _train(run: Run) -> dict:
    cfg, epochs = build_config(run)
    runner = Runner.from_cfg(cfg)
    result = dict(label=run.label, seed=run.seed)
    if run.checkpoint is None:
        runner.register_hook(ComparisonClock(run.metric, run.jobs))
        if not is_stagewise(cfg):  # the schedule's hook does it
            runner.register_hook(GoOn())
        runner.train()
        seconds, jobs = _seconds(runner.message_hub.get_info(SECONDS), len(epochs))
        result |= dict(epochs=epochs, seconds_per_epoch=seconds, jobs=jobs, curve=read_curve(run.work_dir))
    else:
        load_strictly(runner.model, run.checkpoint, 'teacher.checkpoint')
        name_weights(run.work_dir, run.checkpoint)
    if run.measure == 'val':
        result['score'] = score_of(runner.val_loop.run(), run.metric)
    if run.measure == 'test':
        dataset = runner.test_loop.dataloader.dataset
        check_loops(runner, splits=['test'])  # it also puts the names of the classes into the order of the labels
        metrics = runner.test()
        result['score'] = score_of(metrics, run.metric)
        result['classes'] = by_class(metrics, run.per_class, dataset.metainfo.get('classes') or ())
        model = runner.model
        if run.teacher is not None:
            teacher = model.teacher if is_stagewise(cfg) else _teacher_of(run, model)
            result['stages'] = compare_features(model, teacher, runner.test_loop.dataloader)
        student = model.student if is_stagewise(cfg) else model
        result['parameters'] = sum(parameter.numel() for parameter in student.parameters())
    cfg.dump(str(Path(run.work_dir) / 'config.py'))
    return result


def _teacher_of(run: Run, student: nn.Module) -> nn.Module:
    config = str(Path(run.teacher) / 'config.py')
    teacher, cfg, _ = build_teacher(dict(cfg_path=config), weights_of(run.teacher))
    give_own_input(teacher, cfg, student)
    return teacher


def _seconds(notes: Sequence[tuple[int, float, int, bool]], phases: int) -> tuple[list[float], int]:
    """Seconds of an epoch of each phase, and how many runs shared the machine meanwhile.

    Of the epochs of a phase the median, without the first of each process, which starts workers and warms caches.
    """
    notes = [note for note in notes if not note[3]] or list(notes)
    by_phase = [[seconds for phase, seconds, _, _ in notes if phase == index] for index in range(phases)]
    every = [seconds for _, seconds, _, _ in notes]
    return [statistics.median(values or every) for values in by_phase], max(jobs for _, _, jobs, _ in notes)


def score_of(metrics: dict, key: str) -> float:
    """The metric among what an evaluator gave.

    Raises:
        ConfigError: It is not there.
    """
    if key not in metrics:
        raise ConfigError(f'metric: the evaluator gives no {key!r}; it gives {", ".join(sorted(map(str, metrics)))}')
    return float(metrics[key])


def by_class(metrics: dict, key: str | None, classes: Sequence[str]) -> dict[str, float]:
    """The metric's value for each class, from a list under ``key`` or, where ``key`` has ``{}``, from a key for each class."""
    if key is None:
        return {}
    if '{}' in key:
        keys = {name: key.replace('{}', name) for name in classes}
        return {name: float(metrics[own]) for name, own in keys.items() if own in metrics}
    if key not in metrics:
        raise ConfigError(f'per_class: the evaluator gives no {key!r}; it gives {", ".join(sorted(map(str, metrics)))}')
    return {name: float(value) for name, value in zip(classes, metrics[key], strict=True)}


# -- what a run leaves on disk: nothing of a killed one may stop it, or pass for something else ------------------------


def keep_newest(work_dir: str | Path) -> None:
    """Remove all checkpoints but that one. A run that goes on has two, one of which is whole while the other is written."""
    newest = newest_checkpoint(work_dir)
    for file in Path(work_dir).glob('epoch_*.pth'):
        if newest is not None and str(file) != newest:
            file.unlink()


def name_weights(work_dir: str | Path, path: str | Path) -> None:
    """Note that the weights of a run, which trained none of its own, are elsewhere."""
    Path(work_dir, WEIGHTS).write_text(str(path))


def weights_of(work_dir: str | Path | None) -> str | None:
    """The weights that a run ended with; None where it has not, or where they are gone."""
    if work_dir is None:
        return None
    note = Path(work_dir, WEIGHTS)
    path = note.read_text() if note.is_file() else newest_checkpoint(work_dir)
    return path if path and Path(path).is_file() else None
