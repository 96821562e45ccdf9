"""The demo's third task: tell faces apart that no network has seen, on an IJB-A-shaped set of real ones."""

import json
from pathlib import Path

import torch
from demo_steps import TEACHER, Result, Task, last_checkpoint

from mmsskd.face.data.orl_faces import write_orl_faces
from mmsskd.face.evaluation.protocols.ijba_writer import write_ijba_shaped
from mmsskd.face.evaluation.tables import compare_reports
from mmsskd.face.plots import cmc_figure, det_figure, roc_figure
from mmsskd.visualization.history import read_history
from mmsskd.visualization.report import Report
from mmsskd.visualization.sections import add_phases, add_stages
from mmsskd.visualization.stage_table import short

FACES, SET = Path('data/orl_faces'), Path('data/orl_ijba')
PEOPLE = 20  # to train on
LEAST_GAP = 3.0  # points of TAR


def prepare() -> None:
    """Write the faces and the set; what is there is used as it is."""
    if not (FACES / 'train').is_dir():
        print(f'writing the ORL faces to {FACES}', flush=True)
        write_orl_faces(FACES / 'test', first=PEOPLE + 1)
        write_orl_faces(FACES / 'train', last=PEOPLE)
    if not SET.is_dir():
        print(f'writing an IJB-A-shaped set to {SET}', flush=True)
        write_ijba_shaped(FACES / 'test', SET)


def reports_of(results: list[Result]) -> dict[str, dict]:
    """Read for each network the last report that its training wrote."""
    found = {}
    for result in results:
        latest = max(result.work_dir.glob('*/orl_iter_*.json'), key=lambda path: path.stat().st_mtime)
        found[result.name] = json.loads(latest.read_text(encoding='utf-8'))
    return found


def show(results: list[Result]) -> None:
    """Print the IJB-A numbers of all networks."""
    print(f'\n{compare_reports(reports_of(results))}')


def write_report(path: Path, results: list[Result], rows: list[list[str]]) -> None:
    run, reports = results[2], reports_of(results)
    history = read_history(run.work_dir, last_checkpoint(run.work_dir).name)
    one = reports[TEACHER]['splits'][0]
    report = Report('Stage by stage: faces')
    report.text(
        f'A teacher ({short(results[0].parameters)} parameters) learns to tell {PEOPLE} people of the ORL faces apart. Then a '
        f'student ({short(run.parameters)} parameters) is trained plainly, and another by the recipe of docs/results.md: each '
        'stage of the backbone follows the feature maps of the teacher, then everything learns by the embedding, without a single '
        'name. A third is trained plainly where only two pictures of each person have names; the recipe needs none, so its row '
        'is the same there. All are tested on twenty other people, in ten splits with the layout and the rules of IJB-A. All '
        'students take the same number of iterations.'
    )
    report.table('Results on the test faces', TASK.columns, rows)
    report.text(
        f'TAR at FAR 1e-2, mean over ten splits (std in the next table; splits share people, so it is no confidence interval). In '
        f'split 1: {one["verification"]["impostors"]} impostor and {one["verification"]["genuine"]} genuine pairs. One seed, last '
        'epoch. Gap closed: (student - plain) / (teacher - plain), where teacher and plain student are at least '
        f'{LEAST_GAP:.0f} points apart; otherwise the gap itself. Seconds: the whole command.'
    )
    report.heading('The numbers of IJB-A')
    names = list(reports[TEACHER]['summary'])
    report.table(
        'In %, mean over ten splits ± std',
        ['network', *names],
        [[name, *(_cell(each['summary'][key]) for key in names)] for name, each in reports.items()],
    )
    of = f'curves of {", ".join(reports)}; numbers are in the table above'
    report.figure(roc_figure(reports), '1:1: true accept rate over false accept rate, mean over splits.', f'ROC {of}')
    report.figure(det_figure(reports), '1:1: both errors.', f'DET {of}')
    report.figure(cmc_figure(reports), '1:N: share of mated probes whose mate is at a rank or better.', f'CMC {of}')
    add_stages(report, history, 'the test faces')
    add_phases(report, history.phases)
    report.text('The ORL Database of Faces, AT&T Laboratories Cambridge (F. Samaria, A. Harter, 1994).')
    report.write(path)


def _cell(value: dict) -> str:
    if value['mean'] is None:
        return 'not resolvable'
    deviation = '' if value['std'] is None else f' ± {100 * value["std"]:.1f}'
    return f'{100 * value["mean"]:.1f}{deviation}'


TASK = Task(
    arms=[
        (TEACHER, 'plain/face_orl_r18.py', None),
        ('plain student', 'plain/face_orl_r18_student.py', None),
        ('recommended, no names', 'sskd/face_orl_r18_r18.py', 'plain student'),
        ('plain student, names of 2 pictures a person', 'plain/face_orl_r18_student_few_labels.py', None),
    ],
    metric='orl/tar@far=1e-2',
    label='TAR at FAR 1e-2, %',
    scale=100.0,
    least_gap=LEAST_GAP,
    forward=lambda model: model(torch.zeros(1, 3, 64, 64), mode='tensor'),
    write_report=write_report,
    prepare=prepare,
    show=show,
)
