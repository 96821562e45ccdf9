"""Steps that the tasks of tools/demo.py share: trainings as a user would start them, and the table that compares them."""

import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from mmengine.config import Config
from mmengine.registry import DefaultScope
from torch import nn

from mmsskd.compare.statistics import mean_std
from mmsskd.distill.build import build_model
from mmsskd.distill.export import is_stagewise, plain_config
from mmsskd.distill.summary import count_macs, short
from mmsskd.utils.tables import text_table
from mmsskd.visualization.history import read_history

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
    results = [train(task, name, config, out, options) for name, config, _ in task.arms]
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


def train(task: Task, name: str, config: str, out: Path, options: Sequence[str]) -> Result:
    """Run one config, a student's with each seed, and count what its network costs."""
    cfg, options = Config.fromfile(ROOT / 'configs' / config), list(options)
    if is_stagewise(cfg):
        options.append(f'model.teacher_checkpoint={last_checkpoint(folder(out, task.arms[0][1]))}')
        cfg = plain_config(cfg)
    scores, seconds = [], []
    for seed in range(1 if name == TEACHER else task.seeds):
        work_dir, start = folder(out, config, seed), time.time()
        _train(task, name, config, work_dir, [*options, *([f'randomness.seed={seed}'] if seed else [])])
        seconds.append(time.time() - start)
        scores.append(task.scale * read_history(work_dir).last(task.metric))
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        model = build_model(cfg.model).eval()
        macs = count_macs(lambda: task.forward(model))
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return Result(name, folder(out, config), scores, parameters, macs, mean_std(seconds)[0])


def _train(task: Task, name: str, config: str, work_dir: Path, options: Sequence[str]) -> None:
    """Run one config with tools/train.py as a user would, showing its phases as they pass."""
    mark = work_dir / 'made_by_demo'
    if mark.is_file():  # of an earlier demo; what another run left there stays, and is told of
        shutil.rmtree(work_dir)
    work_dir.mkdir(parents=True, exist_ok=True)
    mark.touch()
    command = [sys.executable, ROOT / 'tools/train.py', ROOT / 'configs' / config, '--work-dir', work_dir]
    command = [*map(str, command), *(['--cfg-options', *options] if options else [])]
    print(f'\n--- {name}: python {" ".join(map(_relative, command[1:]))}', flush=True)
    log, held = [], None
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        for line in process.stdout:
            log.append(line)
            held = _show_progress(line, held, task.metric)
    if process.returncode:
        sys.exit(f'{name} stopped with exit code {process.returncode}:\n{"".join(log[-30:])}')


def _relative(argument: str) -> str:
    path = Path(argument)
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else argument


def _show_progress(line: str, held: str | None, metric: str) -> str | None:
    """Show each phase that begins, what its stage has learned at its end, and each score; ``held`` is what may be shown later."""
    _, _, message = line.rstrip().partition(' - INFO - ')
    if ' validation ' in message:
        return message
    if message.startswith('Epoch(val)') and f'{metric}: ' in message:
        epoch, score = message.split('[')[1].split(']')[0], message.split(f'{metric}: ')[1].split()[0]
        print(f'    epoch {epoch}: {metric} {score}', flush=True)
    elif ' begins: ' in message or 'teacher on the validation set' in message:
        if held:
            print(f'    {held.replace("val/", "")}', flush=True)
            held = None
        print(f'    {message}', flush=True)
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
