"""A whole comparison on digits: real runs in worker processes, run twice, with what it writes."""

import csv
import fcntl
import json
import re
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from helpers import ROOT, warm_python
from pages import check_page

from mmsskd.compare.comparison import Comparison
from mmsskd.compare.page import build_page
from mmsskd.compare.plan import read_plan
from mmsskd.compare.runs import weights_of
from mmsskd.compare.tables import Row, Table
from mmsskd.errors import ConfigError

FILE = """
title = 'Digits, small'
metric = 'accuracy/top1'
per_class = 'single-label/recall_classwise'
teacher = dict(
    config='{plain}/digits_r14x2.py',
    options={{'train_cfg.max_epochs': 1, 'model.backbone.width': 1, 'model.head.in_channels': 64}},
)
arms = {{
    'plain student': dict(config='{plain}/digits_r8.py', tries=[{{}}, {{'optim_wrapper.optimizer.lr': 1e-6}}]),
    'stage by stage': dict(
        config='{sskd}/digits_r14x2_r8.py',
        options={{'model.teacher.backbone.width': 1, 'model.teacher.head.in_channels': 64}},
        tries=[{{}}, {{'default_hooks.stage_schedule.transfer.optim_wrapper': dict(optimizer=dict(type='SGD', lr=1e15))}}],
    ),
}}
plain = 'plain student'
epochs = 5
equal_seconds = 'plain student'
seeds = [0, 1]
options = {{
    'visualizer': dict(type='Visualizer', name='visualizer', vis_backends=[dict(type='LocalVisBackend')]),
    'train_dataloader.dataset.indices': 50,
    'train_dataloader.batch_size': 25,
    'val_dataloader.dataset.indices': 40,
    'test_dataloader.dataset.indices': 50,
    'test_evaluator': [
        dict(type='Accuracy', topk=(1,)),
        dict(type='SingleLabelMetric', items=('recall',), average=None),
    ],
}}
"""


# tools/compare.py whose workers are forked: what spawned ones import takes as long as what they train (test_resume.py has those)
SCRIPT = f"""
import os, runpy
from multiprocessing import context
os.cpu_count = lambda: 1  # two threads of so small a network wait for each other
context.SpawnProcess, context.SpawnContext = context.ForkProcess, context.ForkContext
runpy.run_path('{ROOT / 'tools/compare.py'}', run_name='__main__')
"""
EXECUTE = """
import os, sys, mmsskd
os.cpu_count = lambda: 1
from mmsskd.compare.runs import Run, execute
execute(Run(**eval(sys.argv[1])))
"""


@pytest.fixture(scope='module')
def compared(tmp_path_factory):
    """Work dir and output of tools/compare.py."""
    folder = tmp_path_factory.mktemp('compare')
    text = FILE.format(plain=ROOT / 'configs/plain', sskd=ROOT / 'configs/sskd')
    (folder / 'small.py').write_text(text)
    done = call(folder, '--jobs', '2')
    assert done.returncode == 0, done.stderr
    return folder, done.stdout


def call(folder: Path, *args):
    return warm_python('-c', SCRIPT, 'small.py', '--work-dir', 'out', *args, cwd=folder, timeout=600)


def results(folder: Path) -> list[dict]:
    with open(folder / 'out/results.csv', newline='') as file:
        return list(csv.DictReader(file))


def times(folder: Path, but: Path | None = None) -> dict[Path, int]:
    """When each result was written."""
    return {path: path.stat().st_mtime_ns for path in (folder / 'out').rglob('result.json') if path != but}


@pytest.mark.slow
def test_every_arm_is_in_both_tables_with_what_its_runs_gave(compared):
    folder, out = compared
    rows = results(folder)
    assert [row['arm'] for row in rows] == ['teacher', 'plain student', 'stage by stage'] * 2
    assert rows[0]['table'] == 'equal epochs' and rows[3]['table'].startswith('equal seconds')
    assert rows[1]['epochs'] == rows[2]['epochs'] == '5'
    for row, name in ((rows[1], 'plain_student'), (rows[2], 'stage_by_stage')):
        runs = [json.loads((folder / f'out/equal_epochs/{name}/seed_{s}/result.json').read_text()) for s in (0, 1)]
        alone = json.loads((folder / f'out/seconds/{name}/seed_0/result.json').read_text())  # two jobs: measured apart
        assert [float(row['run_1']), float(row['run_2'])] == [run['score'] for run in runs]
        assert float(row['mean']) == pytest.approx(sum(run['score'] for run in runs) / 2)
        assert float(row['seconds']) == pytest.approx(
            sum(n * s for n, s in zip(runs[0]['epochs'], alone['seconds_per_epoch']))
        )
        assert f'{float(row["mean"]):.2f}' in out
        assert len(runs[0]['classes']) == 10 and set(runs[0]['stages']) == {'layer1', 'layer2', 'layer3'}
        assert [epoch for epoch, _ in runs[0]['curve']][-1] == 5
    assert 'relative_error' in runs[0]['stages']['layer1']  # of the arm that mimics
    own = json.loads((folder / 'out/equal_epochs/plain_student/seed_0/result.json').read_text())
    assert set(own['stages']['layer1']) == {'cka'}


@pytest.mark.slow
def test_two_processes_do_all_of_it(compared):
    """What starts a process, seconds each, is done once for each job and not for each step."""
    logs = [path.read_text() for path in (compared[0] / 'out').rglob('run.log')]
    made_by = [re.search(r'Exp name: \S+?_(\d+)_\d{8}_\d{6}', log) for log in logs]
    assert len(logs) > 12 and len({found[1] for found in made_by if found}) == 2


@pytest.mark.slow
def test_each_run_has_its_own_curves_for_any_tool(compared):
    """A visualizer that has a name, as in all configs of mmdet: MMEngine would hand that of the first run to all others."""
    files = list((compared[0] / 'out').rglob('result.json'))
    trained = [file.parent for file in files if 'diverged' not in json.loads(file.read_text())]
    assert len(trained) > 12 and all(list(folder.glob('*/vis_data/scalars.json')) for folder in trained)


@pytest.mark.slow
def test_equal_seconds_gives_each_arm_the_epochs_that_fit(compared):
    rows = results(compared[0])
    budget = float(rows[1]['seconds'])
    each = float(rows[2]['seconds']) / 5
    assert int(rows[4]['epochs']) == 5
    assert int(rows[5]['epochs']) == max(round(budget / each), 4)  # four phases take an epoch each


@pytest.mark.slow
def test_the_search_is_on_the_validation_split_and_told(compared):
    folder, _ = compared
    found = json.loads((folder / 'out/results.json').read_text())['search']
    assert {name: len(tries) for name, tries in found.items()} == {'plain student': 2, 'stage by stage': 2}
    best = max(found['plain student'], key=lambda item: item['score'])
    assert best['options'] == {}  # a learning rate of 1e-6 learns nothing
    run = json.loads((folder / 'out/search/try_1/plain_student/seed_100/result.json').read_text())
    assert run['score'] == best['score'] and 'classes' not in run
    assert run['score'] == run['curve'][-1][1]  # of the validation split
    page = (folder / 'out/index.html').read_text()
    assert '2 tried for each arm' in page and 'never on the test set' in page
    assert found['stage by stage'][1]['score'] is None and 'Tries that diverged: 1 of stage by stage.' in page


@pytest.mark.slow
def test_the_page_needs_nothing_else_and_says_why_there_is_no_gap(compared):
    check_page(compared[0] / 'out/index.html')
    page = (compared[0] / 'out/index.html').read_text()
    assert page.count('<svg') >= 5 and not re.search(r'(src|href)="(?!#|data:)', page)
    gaps = {row['gap_closed'] for row in results(compared[0])}
    assert ('less than 3' in page or 'standard error' in page) == (gaps == {''})


@pytest.mark.slow
def test_an_interrupted_run_goes_on_from_its_checkpoint(compared):
    """Of a run only the last checkpoint is left, and half a result; it ends with the score of the uninterrupted run."""
    folder, _ = compared
    plan = read_plan(str(folder / 'small.py'))
    file = folder / 'out/equal_epochs/plain_student/seed_1/result.json'
    whole = json.loads(file.read_text())
    file.write_text('{"fing')  # the machine went down while it was written
    checkpoint = Path(folder, weights_of(file.parent))
    saved = checkpoint.stat().st_mtime_ns
    Comparison(plan, folder / 'out', say=lambda line: None)  # building it checks, and runs nothing
    others = times(folder, but=file)
    done = call(folder, '--jobs', '2')
    assert done.returncode == 0 and 'plain student, seed 1' in done.stdout, done.stderr
    again = json.loads(file.read_text())
    assert again['score'] == whole['score'] and again['fingerprint'] == whole['fingerprint']
    assert checkpoint.stat().st_mtime_ns == saved  # trained again, it would have been written again
    assert 'resumed' in (file.parent / 'run.log').read_text()
    assert times(folder, but=file) == others  # what was finished is not run again


@pytest.mark.slow
def test_a_teacher_that_is_there_is_measured_and_not_trained(compared, tmp_path):
    folder, _ = compared
    seed = folder / 'out/teacher/seed_0'
    plan = replace(
        read_plan(str(folder / 'small.py')),
        teacher_checkpoint=weights_of(seed),
    )
    run = Comparison(plan, tmp_path, say=lambda line: None)._teacher(1)
    found = warm_python('-c', EXECUTE, repr(asdict(run)), cwd=folder)
    assert found.returncode == 0, found.stderr
    result, trained = run.result(), json.loads((seed / 'result.json').read_text())
    assert result['score'] == trained['score'] and result['parameters'] == trained['parameters']
    assert 'epochs' not in result and not list(tmp_path.rglob('*.pth'))


@pytest.mark.slow
def test_arms_that_would_share_a_folder_are_refused(compared, tmp_path):
    plan = read_plan(str(compared[0] / 'small.py'))
    twin = replace(plan.arms[0], name='plain, student')
    with pytest.raises(ConfigError, match='differs from another only in punctuation'):
        Comparison(replace(plan, arms=(*plan.arms, twin)), tmp_path)


@pytest.mark.slow
def test_a_slip_shows_before_anything_is_trained(tmp_path):
    text = FILE.format(plain=ROOT / 'configs/plain', sskd=ROOT / 'configs/sskd')
    (tmp_path / 'small.py').write_text(text.replace('epochs = 5', 'epochs = 3'))
    done = call(tmp_path)
    assert done.returncode == 1 and 'too few for 4 phases' in done.stderr and not (tmp_path / 'out').exists()


@pytest.mark.slow
def test_fewer_jobs_change_nothing(compared):
    """Nothing is run again: runs that were made two at a time have no seconds to take."""
    folder, _ = compared
    before = results(folder), times(folder)
    again = call(folder)
    assert again.returncode == 0 and ' begins' not in again.stdout
    assert (results(folder), times(folder)) == before


@pytest.mark.slow
def test_two_comparisons_do_not_share_a_work_dir(compared):
    folder, _ = compared
    with open(folder / 'out/.lock', 'w') as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = call(folder)
    assert done.returncode == 1 and 'another comparison is at work in out' in done.stderr


@pytest.mark.slow
def test_a_run_that_fails_is_named_and_the_others_are_kept(tmp_path):
    text = FILE.format(plain=ROOT / 'configs/plain', sskd=ROOT / 'configs/sskd').replace(
        'seeds = [0, 1]', 'seeds = [0]'
    )
    text = re.sub(r',\s*tries=\[.*\]', '', text)
    (tmp_path / 'small.py').write_text(text.replace('accuracy/top1', 'accuracy/top5'))
    done = call(tmp_path)
    assert done.returncode == 1, done.stdout
    assert "gives no 'accuracy/top5'" in done.stderr and 'accuracy/top1' in done.stderr and 'run.log' in done.stderr


@pytest.mark.slow
def test_a_page_without_curves_or_stages(tmp_path, compared):
    """A teacher from a checkpoint has no curve, a detector may have no classes."""
    plan = read_plan(str(compared[0] / 'small.py'))
    rows = [Row(name=n, scores=(80.0,), epochs=(5,), seconds=1.0, parameters=10) for n in ('teacher', 'plain student')]
    build_page(plan, [Table('equal epochs', rows, 1)], {}, 'python x').write(tmp_path / 'page.html')
    assert 'No setting was searched' in (tmp_path / 'page.html').read_text()
    with pytest.raises(ConfigError):
        read_plan(str(tmp_path / 'page.html'))


@pytest.mark.slow
@pytest.mark.parametrize(
    ('old', 'new', 'kept'),
    [
        ('', '', {'teacher', 'plain student', 'stage by stage'}),
        (
            "'model.teacher.head.in_channels': 64",
            "'model.teacher.head.in_channels': 64, 'model.adapter_norm': True",
            {'teacher', 'plain student'},
        ),
        ("'train_dataloader.dataset.indices': 50", "'train_dataloader.dataset.indices': 90", set()),
        ("'accuracy/top1'", "'accuracy/top5'", set()),
    ],
    ids=['nothing', 'an arm', 'the images', 'the metric'],
)
def test_what_a_changed_plan_keeps(compared, tmp_path, old, new, kept):
    folder, _ = compared
    text = (folder / 'small.py').read_text()
    assert old in text
    (tmp_path / 'small.py').write_text(text.replace(old, new))
    changed = Comparison(read_plan(str(tmp_path / 'small.py')), Path('out'), say=lambda line: None)
    runs = {'teacher': changed._teacher(0)} | {
        arm.name: changed._run(arm, 0, 'equal_epochs', 5, arm.tries[0]) for arm in changed.plan.arms
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)  # where the comparison was called
        assert {name for name, run in runs.items() if run.result() is not None} == kept
