"""Workers of a comparison: what an interruption does to them."""

import multiprocessing
import os
import signal
import time

import pytest

from mmsskd.compare.workers import workers


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


def test_an_interruption_ends_them():
    with pytest.raises(KeyboardInterrupt), workers(1) as pool:
        pool.submit(time.sleep, 600)
        (worker,) = multiprocessing.active_children()
        raise KeyboardInterrupt
    worker.join(20)
    with pytest.raises(ProcessLookupError):
        os.kill(worker.pid, 0)
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, set())  # the parent still hears
