"""Trouble that a machine makes while a run trains: a full disk, a file that cannot be read, a process that was killed.

No defect of the code, so one message, with the way to go on, in place of a traceback.
"""

import errno
import re
import time
import traceback

FULL = (errno.ENOSPC, errno.EDQUOT)
UNREADABLE = re.compile(r'failed to load image|cannot identify image file|image file is truncated')
KILLED = re.compile(r'DataLoader worker \(pid(?:\(s\))? ([\d, ]+)\) (?:exited unexpectedly|is killed by signal)')
MOMENT = 0.5  # seconds
SILENT = re.compile(r'Connection (closed|reset) by peer|Timed out waiting|gloo|NCCL|Watchdog caught collective')


def trouble_of(error: BaseException) -> str | None:
    """Say in one message what the machine did and what helps; None for any other exception.

    Args:
        error: What ended the training; what it came from counts too.
    """
    for each in _chain(error):
        text = of_worker(str(each))
        if getattr(each, 'errno', None) in FULL or 'No space left on device' in text or 'PytorchStreamWriter' in text:
            where = getattr(each, 'filename', None)
            return f'the disk is full{f" ({where})" if where else ""}. Make room'
        killed = KILLED.search(text)
        if killed or _handing_over(each):
            return (
                f'a worker of the data loader{f" (process {killed[1]})" if killed else ""} was killed, as by a machine that is '
                'out of memory: fewer num_workers or a smaller batch_size need less'
            )
        if isinstance(each, OSError) or UNREADABLE.search(text):
            return f'a file cannot be read or written: {text}. Mend it, or take it out of its list'
        if isinstance(each, RuntimeError) and SILENT.search(text):
            return (
                f'another process of the run has ended, or has not answered within env_cfg.dist_cfg.timeout: '
                f'{text.splitlines()[0][:200]}. Its own message, or the log of its machine, says why'
            )
    return None


def await_word_of_worker(error: BaseException) -> None:
    """Wait for torch to say that a worker has died, where that broke off the handing over of a batch.

    It says so by raising in the handler of a signal, which comes a moment later, wherever the process is by then; so it had better
    be here.
    """
    if _handing_over(error):
        time.sleep(MOMENT)


def of_worker(message: str) -> str:
    """The message itself where a worker of a data loader raised it: torch puts the worker's traceback before it."""
    found = re.search(r'^Caught \w+Error in DataLoader worker.*\n[\w.]*Error: (.*)', message, re.DOTALL)
    return found[1].strip() if found else message


def _handing_over(error: BaseException) -> bool:
    """Whether it came while a worker handed over a batch: it waits for that at a socket, and gets an answer as long as it lives."""
    frames = traceback.walk_tb(error.__traceback__)
    return any(frame.f_globals.get('__name__') == 'multiprocessing.resource_sharer' for frame, _ in frames)


def _chain(error: BaseException | None):
    """An exception and those that it came from, the outermost first."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
