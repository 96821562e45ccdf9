"""What a machine does to a run while it trains is told in one message, with the way to go on."""

import errno
import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import resource_sharer

import pytest
import yapf.yapflib.yapf_api
from helpers import run_cfg, train, warm_python
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.registry import HOOKS, TRANSFORMS
from tool_helpers import TOOLS, call, write

from mmsskd.cli import plain_errors
from mmsskd.cli.trouble import await_word_of_worker
from mmsskd.utils.work_dir import release


@HOOKS.register_module()
class Trouble(Hook):
    """Raises at the second checkpoint what a full disk, Ctrl-C or a defect raises."""

    saved = 0

    def __init__(self, kind):
        self.kind = kind

    def before_save_checkpoint(self, runner, checkpoint):
        self.saved += 1
        if self.saved == 2:
            raise dict(
                disk=OSError(errno.ENOSPC, 'No space left on device', 'iter_2.pth'),
                ctrl_c=KeyboardInterrupt(),
                defect=TypeError('of somebody'),
            )[self.kind]


@TRANSFORMS.register_module()
class TroubleInWorker:
    """The same in a worker of the data loader, at a late image."""

    seen = 0

    def __init__(self, kind):
        self.kind = kind

    def __call__(self, results):
        self.seen += 1
        if self.seen > 70 and self.kind == 'killed':
            os.kill(os.getpid(), signal.SIGKILL)
        if self.seen > 70:
            raise FileNotFoundError("[Errno 2] No such file or directory: 'cat.jpg'")
        return results


def run(work_dir, teacher_path, monkeypatch, capsys, hook=None, worker=None):
    work_dir.mkdir(exist_ok=True)
    cfg = run_cfg(work_dir / 'run', teacher_path, iters=3, hook=dict(phases=[dict(train='layer1'), dict(train='head')]))
    if hook:
        cfg.custom_hooks = [dict(type='Trouble', kind=hook)]
    if worker:
        cfg.train_dataloader.num_workers = 1
        cfg.train_dataloader.dataset.pipeline.insert(0, dict(type='TroubleInWorker', kind=worker))
    try:
        return call(monkeypatch, capsys, 'train.py', write(cfg, work_dir / 'config.py'))
    finally:
        release(work_dir / 'run')


@pytest.mark.parametrize(
    ('options', 'words'),
    [
        (dict(hook='disk'), 'the disk is full (iter_2.pth). Make room. The same command with --resume'),
        (dict(worker='killed'), 'a worker of the data loader'),
        (
            dict(worker='unreadable'),
            "cannot be read or written: [Errno 2] No such file or directory: 'cat.jpg'. Mend it",
        ),
    ],
)
def test_one_message(tmp_path, teacher_path, monkeypatch, capsys, options, words):
    code, _, error = run(tmp_path, teacher_path, monkeypatch, capsys, **options)
    line = next(line for line in error.splitlines() if line.startswith('error: '))
    assert code == 1 and words in line and '--resume goes on from the last checkpoint' in line
    assert 'Traceback' not in error


def test_a_worker_that_is_killed_while_it_hands_over_a_batch(tmp_path, capsys):
    """The process that asks for the batch gets no answer, and torch tells it of the end of the worker in the midst of that."""
    before = signal.signal(signal.SIGCHLD, lambda *_: 1 / 0)
    try:
        with pytest.raises(SystemExit), plain_errors() as progress:
            progress.training = True
            resource_sharer._resource_sharer.get_connection((str(tmp_path / 'socket of a dead worker'), 1))
        os.kill(os.getpid(), signal.SIGCHLD)
    finally:
        signal.signal(signal.SIGCHLD, before)
    assert capsys.readouterr().err.startswith('error: a worker of the data loader was killed')


def test_word_of_a_worker_that_has_died_is_waited_for(tmp_path):
    before = signal.signal(signal.SIGCHLD, lambda *_: 1 / 0)
    word = threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGCHLD))
    try:
        resource_sharer._resource_sharer.get_connection((str(tmp_path / 'socket of a dead worker'), 1))
    except OSError as error:
        word.start()
        with pytest.raises(ZeroDivisionError):
            await_word_of_worker(error)
        await_word_of_worker(OSError('of a file'))  # at once
    finally:
        signal.signal(signal.SIGCHLD, before)
    assert word.finished.is_set()


@pytest.mark.slow
def test_ctrl_c_during_a_save_and_a_defect(tmp_path, teacher_path, monkeypatch, capsys):
    code, _, error = run(tmp_path / 'a', teacher_path, monkeypatch, capsys, hook='ctrl_c')
    assert code == 130 and 'interrupted; the same command with --resume goes on' in error
    with pytest.raises(TypeError, match='of somebody'):
        run(tmp_path / 'b', teacher_path, monkeypatch, capsys, hook='defect')


def test_a_command_that_always_goes_on_names_no_option(capsys):
    for error, words in ((KeyboardInterrupt(), 'interrupted; the'), (OSError(errno.ENOSPC, ''), 'Make room. The')):
        with pytest.raises(SystemExit), plain_errors('the same command') as progress:
            progress.training = True
            raise error
        assert f'{words} same command goes on' in capsys.readouterr().err


@pytest.mark.slow
def test_the_text_of_a_config_is_laid_out_once_a_run(tmp_path, teacher_path, monkeypatch):
    laid_out, lay_out = [], yapf.yapflib.yapf_api.FormatCode
    monkeypatch.setattr(
        yapf.yapflib.yapf_api, 'FormatCode', lambda text, **options: laid_out.append(text) or lay_out(text, **options)
    )
    cfg = run_cfg(tmp_path, teacher_path, iters=1)
    train(cfg)
    assert len(list(tmp_path.glob('iter_*.pth'))) == 4 and len(laid_out) == len(set(laid_out)) <= 3
    cfg.work_dir = 'another'
    assert "work_dir='another'" in cfg.pretty_text and 'a=1' in Config(dict(a=1)).pretty_text


STOPS = """
import os, pathlib, signal
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

@HOOKS.register_module()
class StopsForever(Hook):
    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.rank == 1 and runner.iter == 1:
            pathlib.Path(runner.work_dir, 'stopped').write_text(str(os.getpid()))
            os.kill(os.getpid(), signal.SIGSTOP)
"""


@pytest.mark.slow
def test_a_rank_that_has_stopped_ends_the_other_within_the_limit(tmp_path, teacher_path):
    (tmp_path / 'stops.py').write_text(STOPS)
    cfg = run_cfg(tmp_path / 'run', teacher_path, hook=dict(phases=[dict(train='layer1')]))
    cfg.custom_imports = dict(imports=['stops'], allow_failed_imports=False)
    cfg.custom_hooks = [dict(type='StopsForever')]
    cfg.env_cfg = dict(dist_cfg=dict(timeout=5))
    world = dict(
        WORLD_SIZE='2', LOCAL_WORLD_SIZE='2', MASTER_ADDR='127.0.0.1', MASTER_PORT='29655', PYTHONPATH=tmp_path
    )
    command = (TOOLS / 'train.py', write(cfg, tmp_path / 'config.py'), '--launcher', 'pytorch')
    with ThreadPoolExecutor(2) as pool:
        first, _ = [
            pool.submit(warm_python, *command, timeout=120, RANK=rank, LOCAL_RANK=rank, **world) for rank in '01'
        ]
        ended = first.result()
        os.kill(int((tmp_path / 'run/stopped').read_text()), signal.SIGKILL)
    assert ended.returncode == 1 and 'has not answered within env_cfg.dist_cfg.timeout' in ended.stderr, ended.stderr[
        -3000:
    ]
