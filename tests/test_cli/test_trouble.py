"""What a machine does to a run while it trains is told in one message, with the way to go on."""

import errno
import os
import signal

import pytest
import yapf.yapflib.yapf_api
from helpers import run_cfg, train
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.registry import HOOKS, TRANSFORMS
from tool_helpers import call, write

from mmsskd.distill.schedule.work_dir import release


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
        (dict(worker='killed'), 'a worker of the data loader (process '),
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


def test_the_text_of_a_config_is_laid_out_once_a_run(tmp_path, teacher_path, monkeypatch):
    laid_out, lay_out = [], yapf.yapflib.yapf_api.FormatCode
    monkeypatch.setattr(
        yapf.yapflib.yapf_api, 'FormatCode', lambda text, **options: laid_out.append(text) or lay_out(text, **options)
    )
    cfg = run_cfg(tmp_path, teacher_path, iters=1)
    train(cfg)
    assert len(list(tmp_path.glob('iter_*.pth'))) == 4 and len(laid_out) == len(set(laid_out)) <= 3
    cfg.work_dir = 'another'
    assert "work_dir = 'another'" in cfg.pretty_text and 'a = 1' in Config(dict(a=1)).pretty_text
