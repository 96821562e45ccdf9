#!/usr/bin/env python
"""Watch knowledge move from a teacher into a smaller student, stage by stage, on real images that need no download.

`make demo` runs this: five trainings with tools/train.py on the configs named in ARMS, then a table and a page of pictures,
work_dirs/demo/report.html.
"""

import argparse
import contextlib
import io
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.registry import DATASETS, MODELS, init_default_scope
from mmengine.runner.checkpoint import CheckpointLoader

import mmsskd  # noqa: F401  before configs are read, so that `mmsskd::` resolves in them
from mmsskd.distill.export import is_stagewise, plain_config
from mmsskd.distill.model_cfg import build_model
from mmsskd.distill.summary import count_macs, short
from mmsskd.utils.cli import plain_errors
from mmsskd.visualization.history import read_history
from mmsskd.visualization.plots import feature_maps, mimic_curves, timeline
from mmsskd.visualization.report import Report

ROOT = Path(__file__).resolve().parents[1]
TEACHER = 'teacher'
# name, config, the plain student that it is compared with
ARMS = [
    (TEACHER, 'plain/digits_r14x2.py', None),
    ('plain student', 'plain/digits_r8.py', None),
    ('stage by stage', 'sskd/digits_r14x2_r8.py', 'plain student'),
    ('plain student, 120 labels', 'plain/digits_r8_few_labels.py', None),
    ('stage by stage, 120 labels', 'sskd/digits_r14x2_r8_few_labels.py', 'plain student, 120 labels'),
]
METRIC = 'accuracy/top1'
IMAGE = (1, 8, 8)
LEAST_GAP = (
    3.0  # points between teacher and plain student below which a share of that gap means nothing (597 test images)
)
COLUMNS = ('', 'accuracy', 'parameters', 'MACs', 'gap closed', 'seconds')


@dataclass
class Result:
    """What one training gave."""

    name: str
    work_dir: Path
    accuracy: float
    parameters: int
    macs: float
    seconds: float


def train(name: str, config: str, out: Path, options: list[str]) -> Result:
    """Run one config with tools/train.py as a user would, showing its phases as they pass."""
    work_dir = out / Path(config).stem
    teacher = out / 'digits_r14x2'
    cfg = Config.fromfile(ROOT / 'configs' / config)
    if is_stagewise(cfg):
        weights = teacher / (teacher / 'last_checkpoint').read_text().rpartition('/')[2]
        options = [*options, f'model.teacher_checkpoint={weights}']
        cfg = plain_config(cfg)
    command = [
        sys.executable,
        str(ROOT / 'tools/train.py'),
        str(ROOT / 'configs' / config),
        '--work-dir',
        str(work_dir),
    ]
    if options:
        command += ['--cfg-options', *options]
    print(f'\n--- {name}: python {" ".join(map(_relative, command[1:]))}', flush=True)
    start = time.time()
    log, held = [], None
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        for line in process.stdout:
            log.append(line)
            held = _show_progress(line, held)
    seconds = time.time() - start
    if process.returncode:
        sys.exit(f'{name} stopped with exit code {process.returncode}:\n{"".join(log[-30:])}')
    model = build_model(cfg.model)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    accuracy = read_history(work_dir).last(METRIC)
    return Result(name, work_dir, accuracy, parameters, count_macs(model, torch.zeros(1, *IMAGE)), seconds)


def _relative(argument: str) -> str:
    path = Path(argument)
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else argument


def _show_progress(line: str, held: str | None) -> str | None:
    """Show each phase that begins, what its stage has learnt at its end, and each accuracy; ``held`` is what may be shown later."""
    _, _, message = line.rstrip().partition(' - INFO - ')
    if ' validation ' in message:
        return message
    if message.startswith('Epoch(val)') and METRIC in message:
        epoch, accuracy = message.split('[')[1].split(']')[0], message.split(f'{METRIC}: ')[1].split()[0]
        print(f'    epoch {epoch}: {METRIC} {accuracy}', flush=True)
    elif ' begins: ' in message or 'teacher on the validation set' in message:
        if held:
            print(f'    {held.replace("val/", "")}', flush=True)
            held = None
        print(f'    {message}', flush=True)
    return held


def table(results: list[Result]) -> list[list[str]]:
    by_name = {result.name: result for result in results}
    rows = []
    for (name, _, plain), result in zip(ARMS, results):
        closed = '-'
        if plain is not None:
            gap = by_name[TEACHER].accuracy - by_name[plain].accuracy
            closed = (
                f'{100 * (result.accuracy - by_name[plain].accuracy) / gap:.0f} %'
                if gap >= LEAST_GAP
                else f'gap of {gap:.1f}'
            )
        cells = (
            f'{result.accuracy:.2f} %',
            short(result.parameters),
            short(result.macs),
            closed,
            f'{result.seconds:.0f}',
        )
        rows.append([name, *cells])
    return rows


def print_table(rows: list[list[str]]) -> None:
    widths = [max(len(row[i]) for row in [COLUMNS, *rows]) for i in range(len(COLUMNS))]
    for row in [COLUMNS, *rows]:
        cells = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:]))]
        print('  '.join(cells))


def features_of(results: list[Result]):
    """Six test digits, and the features that teacher and student give them at each stage, the student's adapted."""
    with contextlib.redirect_stdout(io.StringIO()):
        import mmpretrain.datasets  # noqa: F401  it prints that an optional package is not there
    cfg = Config.fromfile(ROOT / 'configs' / ARMS[2][1])
    weights = {result.name: next(result.work_dir.glob('epoch_*.pth')) for result in results}
    model = dict(cfg.model, data_preprocessor=cfg.data_preprocessor, teacher_checkpoint=str(weights[TEACHER]))
    distiller = MODELS.build(model).eval()
    checkpoint = CheckpointLoader.load_checkpoint(str(weights['stage by stage']), map_location='cpu')
    distiller.load_state_dict(checkpoint['state_dict'])
    dataset = DATASETS.build(cfg.val_dataloader.dataset)
    images = torch.stack([dataset[i]['inputs'] for i in range(6)])
    features = distiller.compare(
        distiller.data_preprocessor(dict(inputs=images), False)['inputs'], list(distiller.stages)
    )
    teacher, student = [pair[1][0] for pair in features.values()], [pair[0][0] for pair in features.values()]
    return images, {'teacher': teacher, 'student': student}, list(features)


def write_report(path: Path, results: list[Result], rows: list[list[str]]) -> None:
    run = results[2]
    history = read_history(run.work_dir, next(run.work_dir.glob('epoch_*.pth')).name)
    few = read_history(results[4].work_dir, next(results[4].work_dir.glob('epoch_*.pth')).name)
    report = Report('Stage by stage: handwritten digits')
    report.text(
        f'A teacher ({short(results[0].parameters)} parameters) is trained on 1,200 handwritten digits. Then a student '
        f'({short(run.parameters)} parameters) is trained plainly, and another stage by stage: one stage after the other follows '
        'the feature map of the teacher while all before it stays frozen, without a single label; then the head alone learns '
        'from the labels. All students take the same number of iterations. With 120 labels the plain student has only those 120 '
        'images; stage by stage the backbone still learns from all images, and only the head needs the labels.'
    )
    report.table(COLUMNS, rows)
    report.text(
        f'597 test images, one seed, last epoch. Gap closed: (student - plain) / (teacher - plain), where teacher and plain '
        f'student are at least {LEAST_GAP:.0f} points apart; otherwise the gap itself. Seconds are those of the whole command.'
    )
    report.heading('Each stage learns in its turn')
    report.figure(
        mimic_curves(history), 'On the test images, at the end of each epoch of the phase that trains the stage.'
    )
    report.heading('Phases')
    report.figure(timeline(history.phases), 'Stage by stage with all labels.')
    report.figure(timeline(few.phases), 'Stage by stage with 120 labels: the head takes more, but shorter, epochs.')
    report.heading('What teacher and student see')
    report.figure(
        feature_maps(*features_of(results)),
        'Mean over channels of the feature of each stage for six test digits, one colour scale for each pair; the student after '
        'its adapter, which brings its channels to the number that the teacher has.',
    )
    report.write(path)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('task', nargs='?', default='classification', choices=['classification', 'all'])
    parser.add_argument('--out', type=Path, default=Path('work_dirs/demo'), help='folder for runs and report')
    parser.add_argument('--cfg-options', nargs='+', default=[], metavar='KEY=VALUE', help='passed on to every training')
    args = parser.parse_args()
    start = time.time()
    MMLogger.get_instance('mmengine', log_level='ERROR')
    init_default_scope('mmpretrain')
    results = [train(name, config, args.out, args.cfg_options) for name, config, _ in ARMS]
    rows = table(results)
    print()
    print_table(rows)
    print(f'(gap closed: not quoted where teacher and plain student are less than {LEAST_GAP:.0f} points apart)')
    write_report(args.out / 'report.html', results, rows)
    print(f'\n{args.out / "report.html"} shows it in pictures ({time.time() - start:.0f} seconds in all)')


if __name__ == '__main__':
    with plain_errors():
        main()
