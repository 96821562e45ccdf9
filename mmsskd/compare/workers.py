"""Processes that runs are trained in. They end when the comparison does, however that ends."""

import gc
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager

import torch

_THREADS = torch.get_num_threads()
KILLED = 'its process was killed, which the system does where memory runs out; fewer --jobs need less'


class _UninterruptedProcess(multiprocessing.context.SpawnProcess):
    """A process that no interruption reaches, from its first instruction: the parent hears it, and ends what runs.

    Left to the worker, it would be the failure of one run, after which the next starts, or a traceback from its imports.
    """

    def start(self) -> None:
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # a new process begins with this mask
        try:
            super().start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


class _Context(
    multiprocessing.context.SpawnContext
):  # a process with threads, or that has used a GPU, cannot be forked
    Process = _UninterruptedProcess


@contextmanager
def workers(jobs: int) -> Iterator[ProcessPoolExecutor]:
    """Up to ``jobs`` processes, started as they are needed. An interruption ends what they run."""
    context = _Context()
    counter = context.Value('i', 0)
    with ProcessPoolExecutor(
        jobs, mp_context=context, initializer=_start_worker, initargs=(os.getpid(), counter)
    ) as pool:
        try:
            yield pool
        except KeyboardInterrupt:
            for worker in multiprocessing.active_children():
                worker.terminate()
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)  # killed, it could not stop its workers, and the next call would train beside them


def take_share(jobs: int) -> None:
    """Give a worker its share of the cores, beside ``jobs`` - 1 other runs, and free the memory of the run before.

    It never has more threads than a process of PyTorch begins with, which ``OMP_NUM_THREADS`` decides.
    """
    torch.set_num_threads(min(max((os.cpu_count() or 1) // jobs, 1), _THREADS))
    gc.collect()  # a runner and its hooks hold each other, and the weights
    torch.cuda.empty_cache()


def _start_worker(parent: int, counter) -> None:
    """Give a worker its GPU and the registries. It ends with ``parent``, which may be gone already."""
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    with counter.get_lock():
        number, counter.value = counter.value, counter.value + 1
    gpus = torch.cuda.device_count()
    if gpus:
        torch.cuda.set_device(number % gpus)
    import mmsskd  # noqa: F401  so that `mmsskd::` resolves in configs
