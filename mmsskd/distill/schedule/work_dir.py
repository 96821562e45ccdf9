"""The work dir of a run: it belongs to one process at a time, and no run is begun over another."""

import fcntl
import os
import socket
import time
from pathlib import Path
from typing import IO

from ...errors import ConfigError
from .checkpoints import newest_checkpoint

LOCK = '.lock'
_held: dict[str, IO] = {}  # lock files of this process, by the real path of the folder


def claim(work_dir: str | Path, resuming: bool) -> None:
    """Take a work dir for this process, until :func:`release` or its end, however it ends.

    The lock is that of the operating system, so one of a dead process, or of a machine that is gone, is none. Calling it again
    for a folder that is held does nothing.

    Args:
        work_dir: Made if it is missing.
        resuming: Whether the run goes on with what is there.

    Raises:
        ConfigError: Another process trains there; or a run is there and would be overwritten.
    """
    folder = os.path.realpath(work_dir)
    if folder in _held:
        return
    os.makedirs(folder, exist_ok=True)
    _lock(folder, str(work_dir))
    begun = newest_checkpoint(folder)
    if begun and not resuming:
        release(work_dir)
        done = 'is finished' if Path(folder, 'student.pth').is_file() else f'has come to {os.path.basename(begun)}'
        raise ConfigError(
            f'work_dir: {str(work_dir)!r} holds a run, which {done}. To go on with it add --resume; to start anew name another '
            '--work-dir, or remove this one'
        )


def release(work_dir: str | Path) -> None:
    """Give a work dir back."""
    file = _held.pop(os.path.realpath(work_dir), None)
    if file is not None:
        file.close()


def _lock(folder: str, work_dir: str) -> None:
    # a lock of POSIX and not one of flock: that would live on in workers of data loaders, which may outlive a killed run
    file = open(os.path.join(folder, LOCK), 'a+', encoding='utf-8')  # noqa: SIM115  it is open as long as the lock is held
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.seek(0)
        who = file.read().strip() or 'another process'
        file.close()
        raise ConfigError(
            f'work_dir: another run is in {work_dir!r}: {who}. Wait for its end, or end it; or name another --work-dir'
        ) from None
    except OSError:  # some network file systems have no locks
        file.close()
        return
    file.truncate(0)
    file.write(f'process {os.getpid()} on {socket.gethostname()}, since {time.strftime("%Y-%m-%d %H:%M:%S")}')
    file.flush()
    _held[folder] = file
