"""All runs of a plan, in an order in which each has what it needs, and what they come to."""

import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from ..cli import explain
from ..distill.export import is_stagewise
from ..errors import ConfigError
from .checks import check_config, check_names, check_splits
from .dry_run import DryRuns, distinct, dry_run
from .plan import Arm, Plan
from .runs import Run, build_config, execute
from .tables import Table, row_of
from .workers import KILLED, workers

TEACHER = 'teacher'


class Comparison:
    """Run what a plan asks for: teachers, search, the runs at equal epochs, those at equal seconds.

    Every run has a work dir of its own below ``out`` and is skipped where it is there already, with the same settings.

    Args:
        plan: What is compared.
        out: Work dir of the comparison.
        jobs: Runs at a time, each with its share of the cores, and on GPUs each on one of them in turn. With more than one,
            seconds are those of separate runs of two epochs of each phase, alone on the machine.
        say: Prints a line.

    Raises:
        ConfigError: Before the first training, for a config or an option that does not fit.
    """

    def __init__(self, plan: Plan, out: Path, jobs: int = 1, say: Callable[[str], None] = print):
        self.plan, self.out, self.jobs, self.say = plan, out, jobs, say
        self.chosen: dict[str, dict] = {arm.name: {} for arm in plan.arms}
        self.searched: dict[str, list[tuple[dict, float | None]]] = {}
        names = [arm.name for arm in plan.arms]
        check_names(names, list(map(file_name, names)), TEACHER)
        with _named(TEACHER):  # what cannot work shows before hours of training
            cfg, _ = build_config(self._teacher(0))
            if is_stagewise(cfg):
                raise ConfigError('its config is one of a stage-by-stage run; name that of the teacher itself')
            check_config(cfg)
        for arm in plan.arms:
            for options in arm.tries or ({},):
                with _named(f'arms[{arm.name!r}]'):
                    run = self._run(arm, 0, 'equal_epochs', plan.epochs, options)
                    cfg, _ = build_config(replace(run, teacher=None))
                    check_config(cfg)
                    if arm.tries:
                        check_splits(cfg)

    def run(self) -> list[Table]:
        """Run everything; returns the tables."""
        with workers(self.jobs) as self._pool:
            return self._run_all()

    def _run_all(self) -> list[Table]:
        plan = self.plan
        self._dry_run()
        teachers = [self._teacher(seed) for seed in self._teacher_seeds()]
        self._all(teachers)
        self._search()
        runs = [
            self._run(arm, seed, 'equal_epochs', plan.epochs, self.chosen[arm.name])
            for seed in plan.seeds
            for arm in plan.arms
        ]
        self._all(runs)
        seconds = self._seconds()
        tables = [self._table('equal epochs', runs, seconds)]
        if plan.equal_seconds is not None:
            tables.append(self._equal_seconds(seconds))
        return tables

    # -- which runs ----------------------------------------------------------------------------------------------------

    def _teacher_seeds(self) -> list[int]:
        if self.plan.teacher_checkpoint is not None:
            return [0]
        searches = [self.plan.search_seed] if any(arm.tries for arm in self.plan.arms) else []
        return [*self.plan.seeds, *(seed for seed in searches if seed not in self.plan.seeds)]

    def _teacher(self, seed: int) -> Run:
        plan = self.plan
        seed = 0 if plan.teacher_checkpoint is not None else seed
        return Run(
            label=f'{TEACHER}, seed {seed}',
            config=plan.teacher,
            options={**plan.options, **plan.teacher_options},
            seed=seed,
            epochs=None,
            work_dir=str(self.out / TEACHER / f'seed_{seed}'),
            metric=plan.metric,
            per_class=plan.per_class,
            val_interval=plan.val_interval,
            checkpoint=plan.teacher_checkpoint,
        )

    def _run(self, arm: Arm, seed: int, table: str, epochs: int | None, options: Mapping, measure: str = 'test') -> Run:
        plan = self.plan
        return Run(
            label=f'{arm.name}, seed {seed}, {table.replace("_", " ")}',
            config=arm.config,
            options={**plan.options, **arm.options, **options},
            seed=seed,
            epochs=epochs,
            work_dir=str(self.out / table / file_name(arm.name) / f'seed_{seed}'),
            metric=plan.metric,
            per_class=plan.per_class,
            val_interval=plan.val_interval,
            measure=measure,
            teacher=self._teacher(seed).work_dir,
        )

    def _dry_run(self) -> None:
        """Try teacher and arms, each arm with each of its tries that has other keys, unless that was done before."""
        plan, folder = self.plan, self.out / 'dry_run'
        done, seed = DryRuns(folder), plan.seeds[0]
        teacher = replace(self._teacher(seed), work_dir=str(folder / TEACHER), label=TEACHER)
        arms = [
            replace(
                self._run(arm, seed, f'dry_run/{i}', plan.epochs, options, 'val' if arm.tries else 'test'),
                label=f'arms[{arm.name!r}]' + (f', try {i}' if i > 1 else ''),
                teacher=teacher.work_dir,
            )
            for arm in plan.arms
            for i, options in distinct(arm.tries)
        ]
        left = [run for run in arms if run not in done]
        if not left and teacher in done:
            return
        self.say(f'{time.strftime("%H:%M:%S")} {len(left)} settings of the arms are tried for one step each')
        for group in ([teacher], left):
            for run, future in [(run, self._pool.submit(dry_run, replace(run, jobs=self.jobs))) for run in group]:
                if future.exception() is not None:
                    self._pool.shutdown(wait=False, cancel_futures=True)
                    error = explain(future.exception(), hint=False)  # type: ignore[arg-type]  # never a KeyboardInterrupt
                    raise ConfigError(f'{run.label}: {error} (log: {run.work_dir}/run.log)')
        done.add([teacher, *left])

    def _search(self) -> None:
        """Choose among the tries of each arm, on the validation split, with a seed of its own."""
        plan = self.plan
        runs = {
            arm.name: [
                self._run(arm, plan.search_seed, f'search/try_{i}', plan.epochs, options, 'val')
                for i, options in enumerate(arm.tries, 1)
            ]
            for arm in plan.arms
            if arm.tries
        }
        self._all([run for several in runs.values() for run in several])
        for arm in plan.arms:
            if arm.name in runs:
                scores = [run.result()['score'] for run in runs[arm.name]]
                self.searched[arm.name] = list(zip(arm.tries, scores))
                finite = [score for score in scores if score is not None]
                if not finite:
                    raise ConfigError(
                        f'arms[{arm.name!r}]: every try of the search diverged; add tries with lower learning rates. The first: '
                        f'{runs[arm.name][0].result()["diverged"]}'
                    )
                self.chosen[arm.name] = arm.tries[scores.index(max(finite))]

    def _seconds(self) -> dict[str, list[float]]:
        """Seconds of an epoch of each phase of each arm, measured with nothing else running."""
        plan, seed = self.plan, self.plan.seeds[0]
        runs = {arm.name: self._run(arm, seed, 'equal_epochs', plan.epochs, self.chosen[arm.name]) for arm in plan.arms}
        if any(run.result().get('jobs') != 1 for run in runs.values()):
            runs = {
                arm.name: self._run(arm, seed, 'seconds', None, self.chosen[arm.name], 'seconds') for arm in plan.arms
            }
            self._all(list(runs.values()), jobs=1)
        return {name: run.result()['seconds_per_epoch'] for name, run in runs.items()}

    def _equal_seconds(self, seconds: dict[str, list[float]]) -> Table:
        """Run each arm for as many epochs as fit into the seconds of ``plan.equal_seconds`` at equal epochs."""
        plan = self.plan
        lengths = {arm.name: self._lengths(arm, plan.epochs) for arm in plan.arms}
        cost = {name: _total(lengths[name], seconds[name]) for name in lengths}
        budget = cost[plan.equal_seconds]
        runs = []
        for seed in plan.seeds:
            for arm in plan.arms:
                epochs = max(round(plan.epochs * budget / cost[arm.name]), len(lengths[arm.name]))
                runs.append(self._run(arm, seed, 'equal_seconds', epochs, self.chosen[arm.name]))
        self._all(runs)
        return self._table(f'equal seconds ({budget:.0f} s, those of {plan.equal_seconds})', runs, seconds)

    def _lengths(self, arm: Arm, epochs: int) -> list[int]:
        run = self._run(arm, 0, 'equal_epochs', epochs, self.chosen[arm.name])
        return build_config(replace(run, teacher=None))[1]

    # -- running -------------------------------------------------------------------------------------------------------

    def _all(self, runs: Sequence[Run], jobs: int | None = None) -> None:
        """Run what is not there yet, ``jobs`` at a time: 1, or as many as there are workers, which is the default."""
        jobs = jobs or self.jobs
        left = [replace(run, jobs=jobs) for run in runs if run.result() is None]
        done, failed, killed = 0, [], False
        for group in [left] if jobs == self.jobs else [[run] for run in left]:
            if killed:  # there are no workers any more
                break
            futures = {self._pool.submit(execute, run): run for run in group}
            for future in as_completed(futures):
                run, error = futures[future], future.exception()
                done += 1
                if error is not None:
                    killed = isinstance(error, BrokenProcessPool)
                    what = KILLED if killed else f'{type(error).__name__}: {error}'
                    failed.append(f'{run.label}: {what} (log: {run.work_dir}/run.log)')
                    self.say(f'{time.strftime("%H:%M:%S")} {done}/{len(left)} FAILED {failed[-1]}')
                    continue
                result = future.result()
                score = result.get('score')
                shown = '' if score is None else f': {self.plan.metric} {score * self.plan.scale:.2f}'
                shown = ': diverged' if 'diverged' in result else shown
                self.say(f'{time.strftime("%H:%M:%S")} {done}/{len(left)} {run.label}{shown}')
        if failed:
            raise ConfigError(
                f'{len(failed)} of {len(left)} runs failed; the others are kept, and the same command goes on from there. '
                f'The first: {failed[0]}'
            )
        for run in left:
            if run.result() is None:
                raise ConfigError(
                    f'{run.label}: its config changed while it ran, so its result is of neither; the same command runs it again'
                )

    # -- what they come to -----------------------------------------------------------------------------------------------

    def _table(self, title: str, runs: Sequence[Run], seconds: dict[str, list[float]]) -> Table:
        plan = self.plan
        results = {(Path(run.work_dir).parent.name, run.seed): run.result() for run in runs}
        teacher = [self._teacher(seed).result() for seed in plan.seeds]
        of = {arm.name: [results[file_name(arm.name), seed] for seed in plan.seeds] for arm in plan.arms}
        rows = [row_of(plan, TEACHER, teacher)]
        for arm in plan.arms:
            total = _total(of[arm.name][0]['epochs'], seconds[arm.name])
            rows.append(row_of(plan, arm.name, of[arm.name], of[arm.plain], teacher, total, arm.plain))
        return Table(title, rows, len(plan.seeds))


@contextmanager
def _named(where: str) -> Iterator[None]:
    """Say of what is wrong in a config whose it is."""
    try:
        yield
    except Exception as error:
        raise ConfigError(f'{where}: {explain(error, hint=False)}') from error


def _total(epochs: Sequence[int], seconds: Sequence[float]) -> float:
    return sum(length * each for length, each in zip(epochs, seconds, strict=True))


def file_name(arm: str) -> str:
    """An arm's name as that of a folder."""
    return re.sub(r'[^\w.]+', '_', arm).strip('._')
