"""All runs of a plan, in an order in which each has what it needs, and what they come to."""

import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from ..cli import explain
from ..distill.phases import is_stagewise
from ..errors import ConfigError
from .checks import check_config, check_names, check_splits
from .dry_run import DryRuns, distinct, dry_run
from .plan import Arm, Plan
from .runs import Run, build_config, execute, weights_of
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

    def run(self, report: Callable[[list[Table]], None] = lambda tables: None) -> list[Table]:
        """Run everything, one seed after the other; returns the tables.

        Args:
            report: Is given the tables of what is there, at first and after each run of an arm.
        """
        with workers(self.jobs) as self._pool:
            self._dry_run()
            self._search()
            runs = self._runs('equal_epochs', dict.fromkeys(self.chosen, self.plan.epochs))
            titled: list[tuple[str, list[Run], dict]] = [('equal epochs', runs, {})]
            self._all(runs, report=lambda: report(self._so_far(titled)))
            seconds = self._seconds()
            titled = [('equal epochs', runs, seconds)]
            if self.plan.equal_seconds is not None:
                title, equal = self._equal_seconds(seconds)
                titled.append((title, equal, seconds))
                self._all(equal, report=lambda: report(self._so_far(titled)))
            return self._so_far(titled)

    def _so_far(self, titled: Sequence[tuple[str, Sequence[Run], dict]]) -> list[Table]:
        tables = [self._table(*each) for each in titled]
        return [table for table in tables if table.rows]

    # -- which runs ----------------------------------------------------------------------------------------------------

    def _runs(self, table: str, epochs: Mapping[str, int]) -> list[Run]:
        """The runs of a table, seed by seed, with the epochs of each arm by its name."""
        return [
            self._run(arm, seed, table, epochs[arm.name], self.chosen[arm.name])
            for place, seed in enumerate(self.plan.seeds)
            for arm in self.plan.arms
            if arm.seeds is None or place < arm.seeds
        ]

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
                failed = future.exception()
                if failed is not None:
                    self._pool.shutdown(wait=False, cancel_futures=True)
                    killed = isinstance(failed, BrokenProcessPool)
                    error = KILLED if killed else explain(failed, hint=False)  # type: ignore[arg-type]  # never a KeyboardInterrupt
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

    def _equal_seconds(self, seconds: dict[str, list[float]]) -> tuple[str, list[Run]]:
        """Title and runs of each arm for as many epochs as fit into the seconds of ``plan.equal_seconds`` at equal epochs."""
        plan = self.plan
        lengths = {arm.name: self._lengths(arm, plan.epochs) for arm in plan.arms}
        cost = {name: _total(lengths[name], seconds[name]) for name in lengths}
        budget = cost[plan.equal_seconds]
        epochs = {name: max(round(plan.epochs * budget / cost[name]), len(lengths[name])) for name in lengths}
        return f'equal seconds ({budget:.0f} s, those of {plan.equal_seconds})', self._runs('equal_seconds', epochs)

    def _lengths(self, arm: Arm, epochs: int) -> list[int]:
        run = self._run(arm, 0, 'equal_epochs', epochs, self.chosen[arm.name])
        return build_config(replace(run, teacher=None))[1]

    # -- running -------------------------------------------------------------------------------------------------------

    def _all(self, runs: Sequence[Run], jobs: int | None = None, report: Callable[[], None] = lambda: None) -> None:
        """Run what is not there yet, and first the teacher of each that needs it.

        Args:
            runs: They start in this order, so that of a comparison that is cut short the first seeds are whole. An arm that waits
                for its teacher lets later seeds go first.
            jobs: Runs at a time: 1, or as many as there are workers, which is the default.
            report: Called at first, and after each run of an arm.
        """
        jobs = jobs or self.jobs
        waiting = list(self._with_teachers(runs))
        running: dict[Future, Run] = {}
        done: list[Run] = []
        failed: list[str] = []
        lost: set[str] = set()  # work dirs of runs that failed
        due = True
        while waiting or running or due:
            for run in list(waiting):
                missing = {each.work_dir for each in (*running.values(), *waiting)}
                if len(running) < jobs and run.teacher not in missing:
                    waiting.remove(run)
                    if run.teacher not in lost and self._is_needed(run, waiting):
                        self.say(f'{time.strftime("%H:%M:%S")} {run.label} begins')
                        running[self._submit(replace(run, jobs=jobs))] = run
            if due:  # while the next runs are at work: it reads all results
                report()
                due = False
            if not running:
                continue
            wait(running, return_when=FIRST_COMPLETED)
            for future in [future for future in running if future.done()]:
                run, error = running.pop(future), future.exception()
                done.append(run)
                if error is not None:
                    if isinstance(error, BrokenProcessPool):  # there are no workers any more
                        waiting.clear()
                    lost.add(run.work_dir)
                    failed.append(f'{run.label}: {_why(error)} (log: {run.work_dir}/run.log)')
                    self.say(f'{time.strftime("%H:%M:%S")} FAILED {failed[-1]}')
                    continue
                result = future.result()
                score = result.get('score')
                shown = '' if score is None else f': {self.plan.metric} {score * self.plan.scale:.2f}'
                shown = ': diverged' if 'diverged' in result else shown
                self.say(f'{time.strftime("%H:%M:%S")} {run.label}{shown}')
                due = due or run.teacher is not None
        if failed:
            raise ConfigError(
                f'{len(failed)} of {len(done)} runs failed; the others are kept, and the same command goes on from there. '
                f'The first: {failed[0]}'
            )
        for run in done:
            if run.result() is None:
                raise ConfigError(
                    f'{run.label}: its config changed while it ran, so its result is of neither; the same command runs it again'
                )

    def _submit(self, run: Run) -> Future:
        try:
            return self._pool.submit(execute, run)
        except BrokenProcessPool as error:  # a worker was killed since it was looked at
            future: Future = Future()
            future.set_exception(error)
            return future

    def _with_teachers(self, runs: Sequence[Run]) -> Iterator[Run]:
        seen = set()
        for run in runs:
            if run.teacher not in seen:
                seen.add(run.teacher)
                yield self._teacher(run.seed)
            yield run

    @staticmethod
    def _is_needed(run: Run, later: Iterable[Run]) -> bool:
        """Whether a run is not there yet; of a teacher also whether its weights are gone and an arm needs them."""
        if run.result() is None:
            return True
        gone = run.teacher is None and weights_of(run.work_dir) is None
        return gone and any(arm.teacher == run.work_dir and arm.result() is None for arm in later)

    # -- what they come to -----------------------------------------------------------------------------------------------

    def _table(self, title: str, runs: Sequence[Run], seconds: dict[str, list[float]]) -> Table:
        plan = self.plan
        there: dict[str, dict[int, dict]] = {arm.name: {} for arm in plan.arms}
        names = {file_name(arm.name): arm.name for arm in plan.arms}
        teacher = {}
        for run in runs:
            result, of_teacher = run.result(), self._teacher(run.seed).result()
            if result is not None and of_teacher is not None:
                there[names[Path(run.work_dir).parent.name]][run.seed] = result
                teacher[run.seed] = of_teacher
        rows = [row_of(plan, TEACHER, teacher)] if teacher else []
        for arm in plan.arms:
            results = there[arm.name]
            if results:
                first = next(iter(results.values()))
                total = _total(first['epochs'], seconds[arm.name]) if seconds else None
                rows.append(row_of(plan, arm.name, results, there[arm.plain], teacher, total, arm.plain))
        return Table(title, rows, len(plan.seeds))


@contextmanager
def _named(where: str) -> Iterator[None]:
    """Say of what is wrong in a config whose it is."""
    try:
        yield
    except Exception as error:
        raise ConfigError(f'{where}: {explain(error, hint=False)}') from error


def _why(error: BaseException) -> str:
    """Say why a run failed, and what helps where memory has run out."""
    if isinstance(error, BrokenProcessPool):
        return KILLED
    more = '; fewer --jobs leave more memory to each' if type(error).__name__ == 'OutOfMemoryError' else ''
    return f'{type(error).__name__}: {error}{more}'


def _total(epochs: Sequence[int], seconds: Sequence[float]) -> float:
    return sum(length * each for length, each in zip(epochs, seconds, strict=True))


def file_name(arm: str) -> str:
    """An arm's name as that of a folder."""
    return re.sub(r'[^\w.]+', '_', arm).strip('._')
