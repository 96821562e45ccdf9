"""The work dir of a run: it belongs to one process at a time, no run is begun over another, one goes on from a whole checkpoint."""

import fcntl
import glob
import os
import re
import socket
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import IO

from ..errors import ConfigError

KINDS = ('epoch_*.pth', 'iter_*.pth', 'phase*_*.pth')
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
        ConfigError: Another process trains there; or a run is there and would be overwritten; or nobody may write there.
    """
    folder = os.path.realpath(work_dir)
    if folder in _held:
        return
    try:
        os.makedirs(folder, exist_ok=True)
        _lock(folder, str(work_dir))
    except OSError as error:
        raise ConfigError(
            f'work_dir: {str(work_dir)!r} cannot be written to ({error.strerror}); name another --work-dir'
        ) from error
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


def newest_checkpoint(folder: str | Path, first: str = '') -> str | None:
    """The whole checkpoint in ``folder`` that a run goes on from; None where there is none.

    A kill may leave half of one, where MMEngine itself writes in place. The end of the archive is written last: it tells a whole
    one. Those of best scores are not among them: they hold no optimizer.

    Args:
        folder: Where to look.
        first: Name of a file to prefer. Where it is broken the last one before it is taken.

    Example:
        >>> newest_checkpoint('/nowhere') is None
        True
    """
    own = re.sub(r'\d+', '*', glob.escape(first))
    files = [Path(folder, first)] if first else []
    for kind in dict.fromkeys([own, *KINDS] if first else KINDS):
        found = [file for file in Path(folder).glob(kind) if kind != own or _numbers(file) < _numbers(Path(first))]
        files += sorted(found, key=_numbers, reverse=True)
    return next((str(file) for file in files if zipfile.is_zipfile(file)), None)


def checkpoint_to_resume(work_dir: str | Path, path: str | None, say: Callable[[str], None]) -> str | None:
    """The file to resume: ``path``, or what MMEngine's note in ``work_dir`` names; where it is broken the newest whole one there.

    The note names its file with the whole path. In a work dir that was moved or copied, the file of that name here is meant.

    Args:
        work_dir: Of the run.
        path: A file or URL; None: the last one of the work dir.
        say: Is told where another file is taken.

    Returns:
        None where ``path`` is None and there is no checkpoint. A file of which nothing whole lies beside is returned as it is.
    """
    if path is not None:
        if '://' in path or not os.path.isfile(path) or zipfile.is_zipfile(path):
            return path
        found = newest_checkpoint(os.path.dirname(path), os.path.basename(path))
    else:
        note = Path(work_dir, 'last_checkpoint')
        path = note.read_text(errors='replace').strip() if note.is_file() else ''
        found = newest_checkpoint(work_dir, os.path.basename(path))
        if zipfile.is_zipfile(path) and os.path.basename(path) != os.path.basename(found or ''):
            found = path  # of a CheckpointHook with an out_dir of its own
    if found is not None and os.path.basename(found) != os.path.basename(path):
        broken = f'{path} is not whole, as after a kill' if path else f'{work_dir}/last_checkpoint names no file'
        say(f'{broken}: going on from {found}')
    return found or path or None


def _numbers(file: Path) -> list[int]:
    return [int(number) for number in re.findall(r'\d+', file.stem)]
