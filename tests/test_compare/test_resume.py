"""A comparison that is interrupted, at any point, ends as one that is not; and ends at once, with all its processes."""

import json
import os
import shutil
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from multiprocessing.context import ForkContext
from pathlib import Path
from threading import Event
from types import SimpleNamespace

import pytest
import torch
from helpers import ROOT, same, warm_python, weights
from mmengine.hooks import CheckpointHook
from mmengine.logging import MessageHub

from mmsskd.compare.clock import ComparisonClock
from mmsskd.compare.comparison import Comparison
from mmsskd.compare.plan import read_plan
from mmsskd.compare.runs import Run, _seconds, weights_of
from mmsskd.compare.workers import workers
from mmsskd.errors import ConfigError
from mmsskd.utils.work_dir import newest_checkpoint

EXECUTE = """
import os, sys, mmsskd
os.cpu_count = lambda: 1  # two threads of so small a network wait for each other
from mmsskd.compare.clock import ComparisonClock
from mmsskd.compare.runs import Run, execute
where, epoch, what = sys.argv[2], int(sys.argv[3]), sys.argv[4]
if where:
    true = getattr(ComparisonClock, where)
    def cut(self, runner, *args, **kwargs):
        if runner.epoch == epoch:
            exec(what)
        return true(self, runner, *args, **kwargs)
    setattr(ComparisonClock, where, cut)
execute(Run(**eval(sys.argv[1])))
"""


def plain_run(folder: Path, **changes) -> Run:
    """A plain training of 6 epochs, a checkpoint at each; random crops are drawn in the process itself."""
    options = {'train_dataloader.dataset.indices': 200, 'test_dataloader.dataset.indices': 100}
    run = Run(
        label='plain',
        config=str(ROOT / 'configs/plain/digits_r8.py'),
        options=options,
        seed=0,
        epochs=6,
        work_dir=str(folder),
        metric='accuracy/top1',
    )
    return replace(run, **changes)


DIE = 'os._exit(9)'


def execute(run: Run, where: str = '', epoch: int = 0, what: str = DIE) -> dict | None:
    """Run it in a process of its own, which does ``what`` where the clock is at ``where`` in ``epoch``; returns the result."""
    done = warm_python('-c', EXECUTE, repr(asdict(run)), where, epoch, what)
    assert done.returncode == (9 if where and what == DIE else 0), done.stderr
    return run.result()


@pytest.fixture(scope='module')
def whole(tmp_path_factory) -> Run:
    run = plain_run(tmp_path_factory.mktemp('whole') / 'run')
    execute(run)
    return run


@pytest.mark.slow
@pytest.mark.parametrize(
    ('where', 'epoch'),
    [
        ('before_train_epoch', 3),
        ('after_val_epoch', 4),  # saved, and not yet validated
        ('after_val_epoch', 6),  # trained to the end
    ],
)
def test_a_plain_run_ends_as_if_it_was_not_interrupted(whole, tmp_path, where, epoch):
    run = plain_run(tmp_path / 'run')
    assert execute(run, where, epoch) is None
    found, expected = execute(run), whole.result()
    assert 'resumed' in (tmp_path / 'run/run.log').read_text()
    for key in ('score', 'curve', 'epochs', 'fingerprint', 'parameters', 'jobs'):
        assert found[key] == expected[key], key
    assert [number for number, _ in found['curve']] == [1, 2, 3, 4, 5, 6]
    assert same(weights(weights_of(run.work_dir)), weights(weights_of(whole.work_dir)))
    assert len(list((tmp_path / 'run').glob('epoch_*.pth'))) == 1


@pytest.mark.slow
def test_a_trained_teacher_counts_by_its_weights(whole, tmp_path):
    """Not by the place of its file, which is another one on the next machine."""
    file = Path(weights_of(whole.work_dir))
    here, there = tmp_path / 'here.pth', tmp_path / 'there.pth'
    shutil.copy(file, here)
    state = torch.load(file, weights_only=False)
    torch.save(dict(state_dict=state['state_dict']), there)  # what a checkpoint has beside the weights does not count
    first = replace(whole, checkpoint=str(here)).fingerprint()
    assert replace(whole, checkpoint=str(there)).fingerprint() == first != whole.fingerprint()
    next(iter(state['state_dict'].values())).add_(1)
    torch.save(state, there)
    assert replace(whole, checkpoint=str(there)).fingerprint() != first


def test_half_a_checkpoint_is_not_gone_on_from(whole, tmp_path):
    """Killed while it saves: the file before is there, or, if that is damaged too, nothing, and it starts anew."""
    run = plain_run(tmp_path / 'run')
    execute(run, 'before_train_epoch', 3)
    files = sorted((tmp_path / 'run').glob('epoch_*.pth'))
    assert [file.name for file in files] == ['epoch_2.pth', 'epoch_3.pth']
    files[1].write_bytes(files[1].read_bytes()[:-100])
    (tmp_path / 'run/last_checkpoint').write_text('')
    assert newest_checkpoint(run.work_dir) == str(files[0])
    files[0].write_bytes(b'')
    assert newest_checkpoint(run.work_dir) is None
    assert execute(run)['score'] == whole.result()['score']


@pytest.mark.slow
def test_a_copied_work_dir_knows_its_own_checkpoints(whole, tmp_path):
    shutil.copytree(whole.work_dir, tmp_path / 'copy')
    assert str(Path(whole.work_dir)) in (tmp_path / 'copy/last_checkpoint').read_text()
    assert newest_checkpoint(tmp_path / 'copy') == str(tmp_path / 'copy/epoch_6.pth')


@pytest.mark.slow
def test_a_teacher_whose_weights_are_gone_is_trained_again(whole, tmp_path):
    shutil.copytree(whole.work_dir, tmp_path / 'copy')
    teacher = replace(whole, work_dir=str(tmp_path / 'copy'))
    arm = plain_run(tmp_path / 'arm', teacher=teacher.work_dir)
    assert not Comparison._is_needed(teacher, [arm])
    (tmp_path / 'copy/epoch_6.pth').unlink()
    assert Comparison._is_needed(teacher, [arm]) and not Comparison._is_needed(teacher, [])
    assert replace(teacher, teacher=whole.work_dir).result() is None  # an arm's depends on its teacher
    assert execute(teacher)['score'] == whole.result()['score'] and weights_of(teacher.work_dir)


@pytest.mark.slow
def test_a_mark_that_cannot_be_read_is_of_other_settings(whole, tmp_path):
    run = plain_run(tmp_path / 'run', epochs=1)
    (tmp_path / 'run').mkdir()
    (tmp_path / 'run/fingerprint').write_bytes(b'\xff\xfe')
    assert execute(run)['epochs'] == [1]


PLAN = """
metric = 'accuracy/top1'
teacher = dict(config='{plain}/digits_r8.py', options={{'train_cfg.max_epochs': 2}})
arms = {{'plain': dict(config='plain.py')}}
plain = 'plain'
epochs = {epochs}
seeds = [0]
options = {{'train_dataloader.dataset.indices': 64, 'val_dataloader.dataset.indices': 32, 'test_dataloader.dataset.indices': 32}}
"""


@pytest.mark.slow
def test_a_config_that_is_edited_while_it_runs_gives_no_result(tmp_path):
    """The result would be of the old text, and pass for one of the new."""
    config = tmp_path / 'plain.py'
    old = f"_base_ = '{ROOT}/configs/plain/digits_r8.py'\n"
    new = f'{old}optim_wrapper = dict(optimizer=dict(lr=1e-6))\n'
    config.write_text(old)
    run = plain_run(tmp_path / 'run', config=str(config), epochs=2)
    assert execute(run, 'after_val_epoch', 1, f'open({str(config)!r}, "w").write({new!r})') is None
    config.write_text(old)
    assert run.result() is not None


def be_killed(run: Run) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize('jobs', [1, 2])
def test_it_says_so_of_a_process_that_was_killed(tmp_path, monkeypatch, jobs):
    """Of runs at the same time, or one after the other."""
    (tmp_path / 'plain.py').write_text(f"_base_ = '{ROOT}/configs/plain/digits_r8.py'\n")
    (tmp_path / 'plan.py').write_text(PLAN.format(plain=ROOT / 'configs/plain', epochs=4))
    monkeypatch.setattr('mmsskd.compare.comparison.execute', be_killed)
    monkeypatch.setattr('mmsskd.compare.workers._Context', ForkContext)
    compared = Comparison(read_plan(str(tmp_path / 'plan.py')), tmp_path / 'out', 2, say=lambda line: None)
    runs = [compared._run(compared.plan.arms[0], seed, 'equal_epochs', 4, {}) for seed in (0, 1)]
    with (
        workers(2) as compared._pool,
        pytest.raises(ConfigError, match='teacher, seed 0: its process was killed.*fewer --jobs'),
    ):
        compared._all(runs, jobs)


def test_it_says_so_of_a_config_that_was_edited(tmp_path, monkeypatch):
    config = tmp_path / 'plain.py'
    config.write_text(f"_base_ = '{ROOT}/configs/plain/digits_r8.py'\n")
    (tmp_path / 'plan.py').write_text(PLAN.format(plain=ROOT / 'configs/plain', epochs=4))
    # of a text that is not there any more
    monkeypatch.setattr('mmsskd.compare.comparison.execute', lambda run: {'score': 0.5})
    compared = Comparison(read_plan(str(tmp_path / 'plan.py')), tmp_path / 'out', say=lambda line: None)
    compared._pool = ThreadPoolExecutor(1)
    with pytest.raises(ConfigError, match='teacher, seed 0: its config changed while it ran'):
        compared._all([compared._run(compared.plan.arms[0], 0, 'equal_epochs', 4, {})])


# tools/compare.py in a session of its own; its worker begins by reading this too
START = f"""
import os, pathlib, signal, sys
os.cpu_count = lambda: 1
sys.path.insert(0, '{ROOT / 'tools'}')
if __name__ == '__main__':
    os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell ignores it in what is to run in the background
    pathlib.Path('pid').write_text(str(os.getpid()))
    from compare import main, plain_errors
    with plain_errors():
        main()
"""


def members(session: int) -> list[int]:
    """Processes of a session that are still at work."""
    found = []
    for stat in Path('/proc').glob('[0-9]*/stat'):
        try:
            state, _, _, own = stat.read_text().rpartition(') ')[2].split()[:4]
        except OSError:
            continue
        if int(own) == session and state != 'Z':
            found.append(int(stat.parent.name))
    return found


def wait(until, seconds: float) -> bool:
    end = time.monotonic() + seconds
    while not until():
        if time.monotonic() > end:
            return False
        time.sleep(0.1)
    return True


@pytest.mark.slow
def test_ctrl_c_ends_it_at_once(tmp_path):
    """Not the run that is at work, of a comparison of minutes, with the next to follow; its worker is a spawned one."""
    plan = PLAN.format(plain=ROOT / 'configs/plain', epochs=300).replace('[0]', '[0, 1]')
    (tmp_path / 'plan.py').write_text(plan.replace("'plain.py'", f"'{ROOT}/configs/plain/digits_r8.py'"))
    (tmp_path / 'called.py').write_text(START)
    curve, pid = tmp_path / 'out/equal_epochs/plain/seed_0/curve.json', tmp_path / 'pid'
    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(warm_python, tmp_path / 'called.py', 'plan.py', '--work-dir', 'out', cwd=tmp_path)
        wait(lambda: curve.exists() or done.done(), 250)
        session = int(pid.read_text())
        if not done.done():
            os.killpg(session, signal.SIGINT)
        ended = wait(done.done, 20) and wait(lambda: not members(session), 5)
        for process in members(session):
            os.kill(process, signal.SIGKILL)
    assert ended and curve.exists() and done.result().returncode == 130, done.result().stderr
    assert done.result().stderr.endswith('interrupted\n') and 'Traceback' not in done.result().stderr
    assert json.loads((tmp_path / 'out/teacher/seed_0/result.json').read_text())['epochs'] == [2]


@pytest.fixture
def compared(tmp_path, monkeypatch):
    """A comparison of two seeds, whose runs only write a result and, of a teacher, its weights."""
    (tmp_path / 'plain.py').write_text(f"_base_ = '{ROOT}/configs/plain/digits_r8.py'\n")
    plan = PLAN.format(plain=ROOT / 'configs/plain', epochs=4).replace('[0]', '[0, 1]')
    more = "'other': dict(config='plain.py', options={'optim_wrapper.optimizer.lr': 0.05}, seeds=1)}"
    (tmp_path / 'plan.py').write_text(plan.replace("dict(config='plain.py')}", f"dict(config='plain.py'), {more}"))
    monkeypatch.setattr('mmsskd.compare.comparison.execute', written)
    compared = Comparison(read_plan(str(tmp_path / 'plan.py')), tmp_path / 'out', 2, say=lambda line: None)
    compared._pool, compared.calls = ThreadPoolExecutor(2), []
    return compared


def written(run: Run) -> dict:
    result = dict(label=run.label, score=50.0 + run.seed, epochs=[4], parameters=8, fingerprint=run.fingerprint())
    Path(run.work_dir).mkdir(parents=True)
    if run.teacher is None:
        Path(run.work_dir, 'weights').write_text(__file__)
    run.result_file.write_text(json.dumps(result))
    return result


def test_seeds_follow_each_other_and_the_table_grows(compared):
    tables, said = [], []
    compared.say = lambda line: said.append(line.split(' ', 1)[1])
    runs = compared._runs('equal_epochs', dict.fromkeys(compared.chosen, 4))
    compared._all(runs, jobs=1, report=lambda: tables.append(compared._so_far([('equal epochs', runs, {})])))
    begun = [line.removesuffix(' begins') for line in said if line.endswith(' begins')]
    assert begun == [
        'teacher, seed 0',
        *(f'{n}, seed 0, equal epochs' for n in ('plain', 'other')),
        'teacher, seed 1',
        'plain, seed 1, equal epochs',
    ]
    assert tables[0] == [] and len(tables) == 4
    (last,) = tables[-1]
    assert {row.name: row.seeds for row in last.rows} == {'teacher': (0, 1), 'plain': (0, 1), 'other': (0,)}
    assert last.rows[2].cells(last.seeds)[1] == '50.00 (1 seed)'


def test_what_waits_for_its_teacher_lets_later_seeds_go_first(compared, monkeypatch):
    said, arm_is_done = [], Event()

    def execute(run: Run) -> dict:  # the first teacher ends last
        if run.label == 'teacher, seed 0':
            assert arm_is_done.wait(60)
        result = written(run)
        if run.label.startswith('plain, seed 1'):
            arm_is_done.set()
        return result

    monkeypatch.setattr('mmsskd.compare.comparison.execute', execute)
    compared.say = lambda line: said.append(line.split(' ', 1)[1])
    compared._all(compared._runs('equal_epochs', dict.fromkeys(compared.chosen, 4)))
    begun = [line.split(', equal')[0] for line in said if line.endswith(' begins')]
    assert begun[:3] == ['teacher, seed 0 begins', 'teacher, seed 1 begins', 'plain, seed 1']
    assert sorted(begun[3:]) == ['other, seed 0', 'plain, seed 0']


def test_results_count_on_a_machine_with_other_folders_without_weights(compared, tmp_path):
    """Those of several machines add up; a teacher is trained again only for an arm that is not there."""
    with_folder = {'train_dataloader.dataset.data_root': '/here/set', 'val_evaluator.ann_file': '/here/set/val.json'}
    compared.plan = replace(compared.plan, options={**compared.plan.options, **with_folder})
    compared._all(compared._runs('equal_epochs', dict.fromkeys(compared.chosen, 4)))
    shutil.copytree(tmp_path / 'out', tmp_path / 'there', ignore=shutil.ignore_patterns('weights'))
    elsewhere = {key: value.replace('/here/set', 'data/other') for key, value in with_folder.items()}
    compared.plan = replace(compared.plan, options={**compared.plan.options, **elsewhere})
    compared.out, compared.jobs, said = tmp_path / 'there', 1, []
    compared.say = said.append
    runs = compared._runs('equal_epochs', dict.fromkeys(compared.chosen, 4))
    compared._all(runs)
    assert not said
    runs[-1].result_file.unlink()
    shutil.rmtree(runs[-1].work_dir)
    assert compared._is_needed(compared._teacher(1), runs) and not compared._is_needed(compared._teacher(0), runs)


def test_a_long_run_is_saved_by_the_time(tmp_path, monkeypatch):
    """So that an interruption costs less than a minute, whatever the interval of its config."""
    monkeypatch.setattr('mmsskd.compare.clock.SAVE_AFTER', 0.0)
    hook = CheckpointHook(interval=100)
    runner = SimpleNamespace(hooks=[hook], message_hub=MessageHub.get_instance(tmp_path.name), epoch=0)
    clock = ComparisonClock('m', 1)
    clock.before_train(runner)
    clock.before_train_epoch(runner)
    clock.after_train_epoch(runner)
    assert hook.interval == 1
    monkeypatch.setattr('mmsskd.compare.clock.SAVE_AFTER', 1e9)
    clock.before_train_epoch(runner)
    clock.after_train_epoch(runner)
    assert hook.interval == 100


def test_seconds_are_those_of_epochs_with_nothing_beside():
    notes = [[0, 9.0, 1, True], [0, 1.0, 1, False], [1, 9.0, 1, True], [1, 2.0, 1, False], [1, 4.0, 1, False]]
    assert _seconds(notes, 2) == ([1.0, 3.0], 1)
    assert _seconds(notes[:1], 1) == ([9.0], 1)
    assert _seconds([*notes, [1, 3.0, 2, False]], 2) == ([1.0, 3.0], 2)  # two jobs: measured apart
