"""Workers of a comparison: what an interruption does to them."""

import contextlib
import multiprocessing
import os
import signal
import time
from pathlib import Path

import pytest
import torch
from helpers import warm_python

from mmsskd.compare.workers import take_share, workers


@pytest.mark.slow
def test_no_interruption_reaches_a_worker(capfd):
    """Not even while it imports, which takes seconds: Ctrl-C goes to each process of a group."""
    with workers(1) as pool:
        future = pool.submit(os.getpid)
        (worker,) = multiprocessing.active_children()
        while not future.done():
            os.kill(worker.pid, signal.SIGINT)
            time.sleep(0.05)
        assert future.result() == worker.pid
    assert 'Traceback' not in capfd.readouterr().err


def test_an_interruption_ends_them(monkeypatch):
    monkeypatch.setattr('mmsskd.compare.workers._Context', multiprocessing.context.ForkContext)
    with pytest.raises(KeyboardInterrupt), workers(1) as pool:
        pool.submit(time.sleep, 600)
        (worker,) = multiprocessing.active_children()
        raise KeyboardInterrupt
    worker.join(20)
    with pytest.raises(ProcessLookupError):
        os.kill(worker.pid, 0)
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, set())  # the parent still hears


KILLED = """
import multiprocessing, os, signal, time
from mmsskd.compare.workers import take_share, workers

with workers(1) as pool:
    pool.submit(time.sleep, 600)
    print(multiprocessing.active_children()[0].pid, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.slow
def test_they_end_with_a_process_that_is_killed():
    """Also where they have not begun: it is killed while they import, which takes seconds."""
    status = Path('/proc', warm_python('-c', KILLED).stdout.strip(), 'status')
    end = time.monotonic() + 60
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        while 'zombie' not in status.read_text():
            assert time.monotonic() < end
            time.sleep(0.1)


@pytest.mark.parametrize(('cores', 'jobs', 'threads', 'share'), [(8, 2, 8, 4), (8, 2, 3, 3), (2, 4, 2, 1)])
def test_a_run_has_its_share_of_the_cores_and_no_more_threads_than_the_process(
    monkeypatch, cores, jobs, threads, share
):
    before = torch.get_num_threads()
    monkeypatch.setattr('os.cpu_count', lambda: cores)
    monkeypatch.setattr('mmsskd.compare.workers._THREADS', threads)
    try:
        take_share(jobs)
        assert torch.get_num_threads() == share
    finally:
        torch.set_num_threads(before)
