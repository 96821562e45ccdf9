"""A run that is asked to end, as by a cluster that pre-empts it, goes on to the bit."""

import os
import signal

import pytest
from helpers import run_cfg, same, train, weights
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from tool_helpers import call, write

from mmsskd.distill.schedule.interruption import ignore_signals_no_more
from mmsskd.utils.work_dir import release


@HOOKS.register_module()
class Preemption(Hook):
    """Sends a signal to the run before its n-th iteration."""

    def __init__(self, number, iteration):
        self.number, self.iteration = number, iteration

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter + 1 == self.iteration:
            os.kill(os.getpid(), self.number)


def cfg_of(work_dir, teacher_path, iters, interval, **changes):
    cfg = run_cfg(work_dir, teacher_path, iters=iters, hook=dict(phases=[dict(train='layer1'), dict(train='head')]))
    cfg.default_hooks.checkpoint.interval = interval
    cfg.update(changes)
    return cfg


@pytest.fixture(scope='module')
def whole(tmp_path_factory, teacher_path):
    """Uninterrupted runs of six iterations, in two epochs where they count these."""
    folder = tmp_path_factory.mktemp('whole')
    return {
        iters: train(cfg_of(folder / str(iters), teacher_path, iters, 100)) and folder / str(iters)
        for iters in (None, 3)
    }


@pytest.mark.parametrize(
    ('iters', 'interval', 'iteration', 'number', 'last'),
    [
        (3, 100, 2, signal.SIGTERM, 'iter_2.pth'),  # within a phase
        (3, 100, 3, signal.SIGUSR1, 'iter_3.pth'),  # at the end of one
        (None, 100, 3, signal.SIGHUP, 'epoch_1.pth'),  # at the end of an epoch
        (None, 1, 5, signal.SIGTERM, 'epoch_1.pth'),  # within one: its last checkpoint stays as it is
    ],
)
def test_the_resumed_run_is_the_uninterrupted_one(
    whole, tmp_path, teacher_path, monkeypatch, capsys, iters, interval, iteration, number, last
):
    hooks = [dict(type='Preemption', number=int(number), iteration=iteration)]
    cfg = cfg_of(tmp_path / 'cut', teacher_path, iters, interval, custom_hooks=hooks)
    before = signal.signal(number, signal.SIG_DFL)  # nohup, for one, has SIGHUP ignored, and so would the run
    try:
        code, _, error = call(monkeypatch, capsys, 'train.py', write(cfg, tmp_path / 'config.py'))
    finally:
        ignore_signals_no_more()
        release(tmp_path / 'cut')
        signal.signal(number, before)
    assert code == 128 + number and f'ended by {number.name}: --resume goes on from' in error and last in error
    assert not (tmp_path / 'cut/student.pth').exists()
    cfg = cfg_of(tmp_path / 'cut', teacher_path, iters, interval, resume=True, load_from=str(tmp_path / 'cut' / last))
    train(cfg)
    assert same(weights(whole[iters] / 'student.pth'), weights(tmp_path / 'cut/student.pth'))


def test_before_anything_was_saved(tmp_path, teacher_path, monkeypatch, capsys):
    hooks = [dict(type='Preemption', number=int(signal.SIGTERM), iteration=2)]
    cfg = cfg_of(tmp_path / 'cut', teacher_path, None, 1, custom_hooks=hooks)
    code, _, error = call(monkeypatch, capsys, 'train.py', write(cfg, tmp_path / 'config.py'))
    ignore_signals_no_more()
    assert code == 143 and 'ended by SIGTERM: nothing was saved yet, so it begins anew' in error
