"""Steps that the tasks of tools/demo.py share: trainings as a user would start them, and the table that compares them."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from mmengine.config import Config
from mmengine.registry import DefaultScope
from torch import nn

from mmsskd.compare.statistics import mean_std
from mmsskd.distill.build import build_model
from mmsskd.distill.export import plain_config
from mmsskd.distill.phases import is_stagewise
from mmsskd.utils.tables import text_table
from mmsskd.visualization.history import read_history
from mmsskd.visualization.stage_table import count_macs, short

ROOT = Path(__file__).resolve().parents[1]
TEACHER = 'teacher'


@dataclass
class Task:
    """One task of the demo.

    Attributes:
        arms: Name, config and the plain student that it is compared with; the teacher first.
        metric, label, scale: The metric's key, its name, and what it is multiplied by to be in points of 100.
        least_gap: Points between teacher and plain student below which a share of that gap means nothing.
        forward: Runs a model on one image, to count its operations.
        write_report: Writes the page, from its path, the results and the rows of the table.
        seeds: Trainings of each student; they have one teacher.
        prepare: Makes the data where it is missing.
        show: Prints what there is beside the table.
    """

    arms: list[tuple[str, str, str | None]]
    metric: str
    label: str
    scale: float
    least_gap: float
    forward: Callable[[nn.Module], object]
    write_report: Callable[[Path, list['Result'], list[list[str]]], None]
    seeds: int = 1
    prepare: Callable[[], None] = lambda: None
    show: Callable[[list['Result']], None] = lambda results: None

    @property
    def columns(self) -> tuple[str, ...]:
        return 'network', self.label, 'parameters', 'MACs', 'gap closed', 'seconds'


@dataclass
class Result:
    """Result of an arm: ``scores`` of its seeds in points of 100, ``work_dir`` of the first, mean ``seconds`` of a training."""

    name: str
    work_dir: Path
    scores: list[float]
    parameters: int
    macs: float
    seconds: float

    @property
    def score(self) -> float:
        """Their mean."""
        return mean_std(self.scores)[0]


def run(task: Task, out: Path, options: Sequence[str], report: Path) -> None:
    """Run all trainings of a task and write the table and the page ``report``."""
    task.prepare()
    results = train_all(task, out, options)
    rows = table(task, results)
    print()
    print(text_table([task.columns, *rows]))
    print(f'(gap closed: not quoted where teacher and plain student are less than {task.least_gap:.0f} points apart)')
    task.show(results)
    task.write_report(report, results, rows)


def last_checkpoint(work_dir: Path) -> Path:
    """The checkpoint that a run wrote last."""
    return work_dir / (work_dir / 'last_checkpoint').read_text().rpartition('/')[2]


def folder(out: Path, config: str, seed: int = 0) -> Path:
    """Work dir of a training."""
    return out / (Path(config).stem + (f'_seed_{seed}' if seed else ''))


def train_all(task: Task, out: Path, options: Sequence[str]) -> list[Result]:
    """Train the teacher, then all students side by side, each on its share of the cores: one of these networks uses no more."""
    students = [(name, config, seed) for name, config, _ in task.arms[1:] for seed in range(task.seeds)]
    jobs = min(os.cpu_count() or 1, len(students))
    seconds = {(TEACHER, 0): _train(task, TEACHER, task.arms[0][1], 0, out, options, 1)}
    with ThreadPoolExecutor(jobs) as pool:
        try:
            futures = {
                (name, seed): pool.submit(_train, task, name, config, seed, out, options, jobs)
                for name, config, seed in students
            }
            seconds |= {key: future.result() for key, future in futures.items()}
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return [
        _result(task, name, config, out, [took for (of, _), took in seconds.items() if of == name])
        for name, config, _ in task.arms
    ]


def _result(task: Task, name: str, config: str, out: Path, seconds: list[float]) -> Result:
    """Read the scores of an arm's seeds, which took ``seconds``, and count what its network costs."""
    cfg = Config.fromfile(ROOT / 'configs' / config)
    if is_stagewise(cfg):
        cfg = plain_config(cfg)
    scores = [task.scale * read_history(folder(out, config, seed)).last(task.metric) for seed in range(len(seconds))]
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        model = build_model(cfg.model).eval()
        macs = count_macs(lambda: task.forward(model))
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return Result(name, folder(out, config), scores, parameters, macs, mean_std(seconds)[0])


def _train(task: Task, name: str, config: str, seed: int, out: Path, options: Sequence[str], jobs: int) -> float:
    """Run one config with tools/train.py as a user would, beside ``jobs`` - 1 others, showing its phases as they pass.

    Returns the seconds that it took.
    """
    start, work_dir, options = time.time(), folder(out, config, seed), list(options)
    if is_stagewise(Config.fromfile(ROOT / 'configs' / config)):
        options.append(f'model.teacher_checkpoint={last_checkpoint(folder(out, task.arms[0][1]))}')
    if seed:
        options.append(f'randomness.seed={seed}')
    mark = work_dir / 'made_by_demo'
    if mark.is_file():  # of an earlier demo; what another run left there stays, and is told of
        shutil.rmtree(work_dir)
    work_dir.mkdir(parents=True, exist_ok=True)
    mark.touch()
    command = [sys.executable, ROOT / 'tools/train.py', ROOT / 'configs' / config, '--work-dir', work_dir]
    command = [*map(str, command), *(['--cfg-options', *options] if options else [])]
    title = name if name == TEACHER or task.seeds == 1 else f'{name}, seed {seed}'
    print(f'--- {title}: python {" ".join(map(_relative, command[1:]))}', flush=True)
    log, held = [], None
    env = dict(os.environ, OMP_NUM_THREADS=str(max((os.cpu_count() or 1) // jobs, 1)))
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=env) as process:
        for line in process.stdout:
            log.append(line)
            held = _show_progress(line, held, task.metric, title)
    if process.returncode:
        print(f'{title} ended with exit code {process.returncode}:\n{"".join(log[-30:])}', file=sys.stderr, flush=True)
        sys.exit(1)  # said at once: another training may have minutes to go
    return time.time() - start


def _relative(argument: str) -> str:
    path = Path(argument)
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else argument


def _show_progress(line: str, held: str | None, metric: str, title: str) -> str | None:
    """Show each phase that begins, what its stage has learned at its end, and each score; ``held`` is what may be shown later."""
    _, _, message = line.rstrip().partition('  ')
    if ' epoch ' in message and '  error ' in message:
        return message
    if f'  {metric} ' in message or ' begins: ' in message or 'teacher on the validation set' in message:
        for said in filter(None, (held, message)):
            print(f'{title}: {said}', flush=True)
        return None
    return held


def table(task: Task, results: list[Result]) -> list[list[str]]:
    by_name = {result.name: result for result in results}
    rows = []
    for (name, _, plain), result in zip(task.arms, results):
        closed = '-'
        if plain is not None:
            gap = by_name[TEACHER].score - by_name[plain].score
            share = 100 * (result.score - by_name[plain].score) / gap if gap >= task.least_gap else None
            closed = f'gap of {gap:.1f}' if share is None else f'{share:.0f} %'
        mean, deviation = mean_std(result.scores)
        score = f'{mean:.2f}' if deviation is None else f'{mean:.2f} ± {deviation:.2f}'
        cells = score, short(result.parameters), short(result.macs), closed, f'{result.seconds:.0f}'
        rows.append([name, *cells])
    return rows
