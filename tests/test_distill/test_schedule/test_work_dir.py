"""A work dir belongs to one run at a time, and no run is begun over another."""

import contextlib
import os
import signal
import time

import pytest
import torch
from helpers import run_cfg
from mmengine.runner import Runner
from tool_helpers import call, write

from mmsskd.distill.schedule.work_dir import claim, release
from mmsskd.errors import ConfigError


def hold(folder, pipe):
    """In a process of its own: claim the folder, and start another process, as a worker of a data loader that outlives a kill."""
    claim(folder, resuming=False)
    worker = os.fork()
    if worker:
        os.write(pipe, str(worker).encode())
    time.sleep(100)


def test_another_process_is_named_and_a_dead_one_is_no_obstacle(tmp_path):
    reading, writing = os.pipe()
    process = os.fork()
    if not process:
        try:
            hold(tmp_path, writing)
        finally:
            os._exit(0)
    worker = int(os.read(reading, 20))
    try:
        with pytest.raises(ConfigError, match=rf'another run is in .*: process {process} on \S+, since 20'):
            claim(tmp_path, resuming=True)
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)
        claim(tmp_path, resuming=False)
        claim(tmp_path, resuming=False)  # it is ours
        release(tmp_path)
    finally:
        os.kill(worker, signal.SIGKILL)
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)


def test_a_run_is_not_begun_over_another(tmp_path, teacher_path, monkeypatch, capsys):
    """By the hook, as under mmdet's own train.py, and by ours, of a plain run too, before it writes anything there."""
    phases = [dict(train='layer1'), dict(train='head')]

    def cfg(**changes):
        return run_cfg(tmp_path / 'work', teacher_path, hook=dict(phases=phases), **changes)

    (tmp_path / 'work').mkdir()
    torch.save(dict(meta={}), tmp_path / 'work/epoch_2.pth')
    torch.save({}, tmp_path / 'work/student.pth')
    words = 'holds a run, which is finished. To go on with it add --resume'
    with pytest.raises(ConfigError, match=words):
        Runner.from_cfg(cfg()).train()
    os.remove(tmp_path / 'work/student.pth')
    plain = cfg()
    plain.model = plain.model.student
    plain.default_hooks.pop('stage_schedule')
    for file in (write(cfg(), tmp_path / 'config.py'), write(plain, tmp_path / 'plain.py')):
        before = sorted(tmp_path.rglob('*'))
        code, _, error = call(monkeypatch, capsys, 'train.py', file)
        assert code == 1 and 'holds a run, which has come to epoch_2.pth. To go on' in error
        assert sorted(tmp_path.rglob('*')) == before
