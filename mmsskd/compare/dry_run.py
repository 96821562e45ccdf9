"""Dry run of each arm before the teacher trains, so that a slip in the last of them does not show after hours."""

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner

from ..distill.build import load_strictly
from ..distill.schedule.data_checks import DataChecks, check_loops
from ..errors import ConfigError, NonFiniteLossError, naming
from ..utils.files import write_text
from .runs import Run, build_config, by_class, logged, name_weights, score_of
from .workers import take_share


class _Enough(Exception):
    pass


class _OneStep(Hook):
    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch=None, outputs=None) -> None:
        raise _Enough


def dry_run(run: Run) -> None:
    """Build everything of a run, train one iteration, and look for the metric in what the evaluators give for one batch.

    Where the run is the teacher's, its work dir has a checkpoint afterwards, of untrained weights, for the arms to be tried with.

    Raises:
        ConfigError: Something does not fit.
        Exception: What others raise of a config that they cannot build.
    """
    folder = Path(run.work_dir)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    take_share(run.jobs)
    with logged(run):
        cfg, _ = build_config(run)
        with naming(cfg):
            runner = Runner.from_cfg(cfg)
            test_loop = runner.test_loop  # built first, so that its data set is looked at with the others
            if run.checkpoint is not None:
                load_strictly(runner.model, run.checkpoint, 'teacher.checkpoint')
                check_loops(runner)
            else:
                runner.register_hook(_OneStep())
                runner.register_hook(DataChecks())
                # what diverges may do so in earnest, as a try of the search
                with suppress(_Enough, NonFiniteLossError):
                    runner.train()
        if run.teacher is None:
            torch.save(dict(state_dict=runner.model.state_dict()), folder / 'untrained.pth')
            name_weights(folder, run.checkpoint or folder / 'untrained.pth')
        _look_for_metric(runner, test_loop, run, run.per_class)
        if run.measure == 'val':
            _look_for_metric(runner, runner.val_loop, run, None)


@torch.no_grad()
def _look_for_metric(runner: Runner, loop, run: Run, per_class: str | None) -> None:
    model = runner.model.eval()
    data = next(iter(loop.dataloader))
    outputs = model.test_step(data)
    try:
        loop.evaluator.process(data_samples=outputs, data_batch=data)
        metrics = loop.evaluator.evaluate(len(outputs))
    except Exception:  # some protocols say nothing of a part of their images
        return
    if metrics:  # a detector that finds nothing yet has none
        score_of(metrics, run.metric)
        classes = loop.dataloader.dataset.metainfo.get('classes') or ()
        if per_class is not None and not by_class(metrics, per_class, classes):
            some = ', '.join(map(str, classes[:3])) or '(none)'
            raise ConfigError(
                f'per_class: the evaluator gives nothing under {per_class!r} for classes such as {some}; '
                f'it gives {", ".join(sorted(map(str, metrics)))}'
            )


def distinct(tries: Sequence[Mapping]) -> Iterator[tuple[int, Mapping]]:
    """The first of ``tries``, and each that has other keys or types than those before it, by number from 1; if none, ``{}``."""
    seen = set()
    for i, options in enumerate(tries or [{}], 1):
        keys = frozenset(_keys(options))
        if keys not in seen:
            seen.add(keys)
            yield i, options


def _keys(options: Mapping, prefix: str = '') -> Iterator[str]:
    for key, value in options.items():
        yield f'{prefix}{key}={value}' if key.split('.')[-1] == 'type' else f'{prefix}{key}'
        if isinstance(value, Mapping):
            yield from _keys(value, f'{prefix}{key}.')


class DryRuns:
    """Runs that were tried in a work dir, so that a comparison that goes on does not do it again.

    Args:
        folder: Of the dry runs.
    """

    def __init__(self, folder: Path):
        self.file = folder / 'done.json'
        try:
            self.known = set(json.loads(self.file.read_text()))
        except (OSError, ValueError, TypeError):
            self.known = set()

    def __contains__(self, run: Run) -> bool:
        return run.fingerprint() in self.known

    def add(self, runs: list[Run]) -> None:
        """Note ``runs``, and leave nothing else of any."""
        self.known |= {run.fingerprint() for run in runs}
        for folder in self.file.parent.iterdir():
            if folder.is_dir():
                shutil.rmtree(folder, ignore_errors=True)
        write_text(self.file, json.dumps(sorted(self.known)))
