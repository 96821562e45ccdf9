"""Kill small runs at random moments and at each instant of a save, resume them, and compare them with uninterrupted ones.

    python tests/faults/kill_campaign.py --kills 60 --seed 0 --out table.md

Each run is a process of its own, forked from this one, and ends by SIGKILL. After a chain of kills and resumes its student, its
best checkpoint and all its scores must be those of the run that nobody killed, to the bit, and no file may be half-written. The
exit code is 1 where one is not.
"""

import argparse
import contextlib
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import threading
import time
import zipfile
from collections import Counter
from dataclasses import dataclass
from itertools import product
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import mmengine.hooks.checkpoint_hook
import mmengine.runner.runner
import mmpretrain.datasets
import mmpretrain.engine
import mmpretrain.evaluation  # noqa: F401
import shortcuts
import torch
from helpers import classifier, loader, run_cfg, save_weights, weights
from mmengine.fileio import LocalBackend
from mmengine.hooks import Hook
from mmengine.logging import MMLogger
from mmengine.runner import Runner

LOGITS = [
    dict(train='stages', mimic='stages'),
    dict(train='head', logits=True, task_loss=True),
    dict(train='all', logits=True, task_loss=True),
]
SCHEDULES = dict(literal='sskd_literal', kept='sskd_kept', then_all='sskd_then_all', logits=LOGITS)
WORKERS = dict(none=(0, False), two=(2, False), persistent=(2, True))
# of a save: of which file, and where within
INSTANTS = [
    f'{kind} {where}' for kind in ('checkpoint', 'best', 'phase') for where in ('before', 'within', 'written', 'after')
] + ['note within', 'removal before', 'removal after', 'validation']


@dataclass(frozen=True)
class Case:
    """A run of the campaign."""

    schedule: str
    loop: str
    workers: str

    def config(self, folder: Path, teacher: Path):
        iters = None if self.loop == 'epochs' else 3
        count, persistent = WORKERS[self.workers]
        adam = dict(optimizer=dict(type='Adam', lr=0.01))
        length = dict(epochs=2) if iters is None else dict(iters=6)
        cfg = run_cfg(folder, teacher, iters=iters, hook=dict(phases=SCHEDULES[self.schedule], evaluate_teacher=False))
        cfg.default_hooks.stage_schedule.transfer.update(optim_wrapper=adam)
        cfg.default_hooks.stage_schedule.head.update(length, optim_wrapper=adam)
        cfg.train_dataloader = loader(infinite=iters is not None)
        cfg.train_dataloader.update(num_workers=count, persistent_workers=persistent)
        cfg.default_hooks.checkpoint.update(
            max_keep_ckpts=1, save_best='confidence', rule='greater', interval=1 if iters is None else 2
        )
        cfg.val_evaluator = [cfg.val_evaluator, dict(type='Confidence')]
        if self.schedule == 'logits':
            cfg.model.logits = 'head.fc'
        cfg.randomness.seed = 1
        return cfg


# -- in the process that is killed -------------------------------------------------------------------------------------


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class Timer(Hook):
    """Note when training begins; kill it after ``delay`` seconds of it, where one is given."""

    priority = 'VERY_HIGH'

    def __init__(self, delay: float | None):
        self.delay = delay

    def before_train(self, runner) -> None:
        self.since = time.monotonic()
        if self.delay is not None:
            timer = threading.Timer(self.delay, die)
            timer.daemon = True
            timer.start()

    def after_train(self, runner) -> None:
        Path(runner.work_dir, 'seconds').write_text(str(time.monotonic() - self.since))


def kind_of(path) -> str:
    name = Path(path).name
    return 'best' if name.startswith('best_') else 'phase' if name.startswith('phase') else 'checkpoint'


def arm(instant: str, number: int) -> list[Hook]:
    """Die at the ``number``-th time that this process comes to ``instant``; returns hooks that the run needs for it."""
    passed: Counter = Counter()

    def at(*place: str) -> bool:
        passed[place] += 1
        return ' '.join(place) == instant and passed[place] == number

    write, replace, remove = mmengine.runner.runner.save_checkpoint, os.replace, LocalBackend.remove

    def save_checkpoint(checkpoint, path, **options):
        if at(kind_of(path), 'before'):
            die()
        write(checkpoint, path, **options)
        if at(kind_of(path), 'within'):
            data = Path(path).read_bytes()
            Path(path).write_bytes(data[: random.randrange(len(data))])
            die()

    def replaced(source, target, **options):
        if str(target).endswith('.pth') and 'student' not in Path(target).name:
            if at(kind_of(target), 'written'):
                die()
            replace(source, target, **options)
            if at(kind_of(target), 'after'):
                die()
        else:
            replace(source, target, **options)

    def removed(self, path):
        if at('removal', 'before'):
            die()
        remove(self, path)
        if at('removal', 'after'):
            die()

    def opened(*args, **options):
        file = open(*args, **options)  # noqa: SIM115  handed on
        if at('note', 'within'):
            die()
        return file

    mmengine.runner.runner.save_checkpoint, os.replace, LocalBackend.remove = save_checkpoint, replaced, removed
    mmengine.hooks.checkpoint_hook.open = opened

    class DieInValidation(Hook):
        def after_val_iter(self, runner, batch_idx, data_batch=None, outputs=None):
            if at('validation'):
                die()

    return [DieInValidation()]


def work(case: Case, folder: Path, teacher: Path, resume: bool, plan: tuple) -> None:
    """Train in this process, which ends with it."""
    log = os.open(folder.parent / f'{folder.name}.log', os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    code = 1
    try:
        torch.set_num_threads(1)
        instant, amount = plan
        cfg = case.config(folder, teacher)
        cfg.resume = resume and any(folder.glob('*.pth'))
        hooks = [Timer(amount if instant == 'random' else None)]
        if instant not in (None, 'random'):
            hooks += arm(instant, amount)
        runner = Runner.from_cfg(cfg)
        for hook in hooks:
            runner.register_hook(hook)
        runner.train()
        code = 0
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


# -- in the process that looks on --------------------------------------------------------------------------------------


def run(case: Case, folder: Path, teacher: Path, resume: bool = False, plan: tuple = (None, None)) -> int:
    """Returns 0, or 9 where it was killed."""
    folder.mkdir(exist_ok=True)
    pid = os.fork()
    if not pid:
        os.setsid()
        work(case, folder, teacher, resume, plan)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)  # its workers, as a cluster does
    return abs(code)


def scores(folder: Path) -> dict:
    """What was validated, by key and step; over all the processes of a run."""
    found: dict = {}
    for file in sorted(folder.glob('*/vis_data/scalars.json')):
        for line in file.read_text().splitlines():
            try:
                values = json.loads(line)
            except ValueError:  # the last one of a process that was killed
                continue
            for key in values:
                if key.startswith(('accuracy', 'confidence', 'val/')):
                    found[key, values['step']] = values[key]
    return found


def differences(folder: Path, whole: Path) -> list[str]:
    """What a chain has left that is not as in the uninterrupted run."""
    names, expected = ({path.name for path in each.iterdir() if '.pth' in path.name} for each in (folder, whole))
    found = [f'files {sorted(names ^ expected)}'] if names != expected else []
    found += [f'{path.name} is half-written' for path in folder.glob('*.pth') if not zipfile.is_zipfile(path)]
    for name in sorted(names & expected):
        if not found:
            ours, theirs = weights(folder / name), weights(whole / name)
            if ours.keys() != theirs.keys() or not all(torch.equal(ours[key], theirs[key]) for key in theirs):
                found.append(f'weights of {name}')
    ours, theirs = scores(folder), scores(whole)
    found += [f'{key}: {ours.get(key)}, not {theirs[key]}' for key in theirs if ours.get(key) != theirs[key]]
    if not found:
        last = [torch.load((each / 'last_checkpoint').read_text(), weights_only=False) for each in (folder, whole)]
        best = [each['message_hub']['runtime_info']['best_score'] for each in last]
        found += ['best score'] if best[0] != best[1] else []
    return found


def chain(case: Case, root: Path, teacher: Path, whole: Path, plans: list[tuple]) -> tuple[list[str], list[str]]:
    """Kill a run by each plan, one after the other, then let it end.

    Returns:
        The instants at which it was killed, and what differs then. A run that ends before its time is not killed.
    """
    folder = root / f'{"_".join(vars(case).values())}_killed'
    shutil.rmtree(folder, ignore_errors=True)
    killed = []
    for number, plan in enumerate([*plans, (None, None)]):
        code = run(case, folder, teacher, number > 0, plan)
        if code == 9:
            killed.append(plan[0])
        elif code or plan[0] is None:
            break
    log = root / f'{folder.name}.log'
    return killed, differences(folder, whole) if not code else [f'exit code {code}, see {log}']


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--kills', type=int, default=60, help='at least so many')
    parser.add_argument('--cases', type=int, help='so many of the runs, drawn by lot; default all')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--out', type=Path, help='the table goes there too')
    args = parser.parse_args()
    shortcuts.take()
    draw = random.Random(args.seed)
    cases = [Case(*each) for each in product(SCHEDULES, ('epochs', 'iterations'), WORKERS)]
    cases = draw.sample(cases, args.cases or len(cases))
    root = Path(tempfile.mkdtemp(prefix='kill_campaign'))
    MMLogger.get_instance('quiet', log_level='ERROR')
    teacher = Path(save_weights(classifier(), root / 'teacher.pth'))
    rows = {case: [0, 0, 0] for case in cases}  # kills, chains, chains that end as the uninterrupted run
    seconds, at, faults = {}, Counter(), []
    instants = draw.sample(INSTANTS, len(INSTANTS))
    while sum(row[0] for row in rows.values()) < args.kills:
        for case in cases:
            name = '_'.join(vars(case).values())
            whole = root / name
            if case not in seconds:
                if run(case, whole, teacher):
                    print((root / f'{name}.log').read_text()[-3000:])
                    return 1
                seconds[case] = float((whole / 'seconds').read_text())
            plans = []
            for _ in range(3):
                if draw.random() < 0.5:
                    plans.append(('random', draw.uniform(0, 0.6 * seconds[case])))
                else:
                    plans.append((instants[0], draw.choice((1, 1, 2))))
                    instants = [*instants[1:], instants[0]]
            killed, different = chain(case, root, teacher, whole, plans)
            at.update(killed)
            rows[case] = [sum(pair) for pair in zip(rows[case], (len(killed), 1, not different))]
            if different:
                faults.append(f'{name}, seed {args.seed}, killed at {plans}: {"; ".join(different[:4])}')
                print(faults[-1], flush=True)
            if sum(row[0] for row in rows.values()) >= args.kills and all(row[1] for row in rows.values()):
                break
    lines = ['| schedule | loop | workers | kills | chains | identical |', '| --- | --- | --- | --- | --- | --- |']
    lines += [f'| {" | ".join(map(str, (*vars(case).values(), *row)))} |' for case, row in rows.items()]
    totals = [sum(column) for column in zip(*rows.values())]
    lines += [f'| all | | | {" | ".join(map(str, totals))} |', '', 'Killed at: ']
    lines[-1] += ', '.join(f'{instant} {count}' for instant, count in sorted(at.items()))
    text = '\n'.join([*lines, *faults])
    print(text)
    if args.out:
        args.out.write_text(text + '\n')
    if not faults:
        shutil.rmtree(root)
    return bool(faults)


if __name__ == '__main__':
    sys.exit(main())
