"""Files that a user names, and that lists name: whether they are there, and how much of what is in them a message repeats."""

import os
import stat
from collections.abc import Iterable
from pathlib import Path

from ....errors import ConfigError, candidates

ECHO = 80  # characters of a file that a message repeats


def file_fault(path: str | os.PathLike) -> str | None:
    """Name the fault of ``path`` where no file with content is: ``'missing file'``, ``'empty file (0 bytes)'``, ``'folder'``."""
    try:
        status = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return 'link to nothing' if os.path.islink(path) else 'missing file'
    except OSError as error:  # a loop of links, no permission for the folder
        return f'unreadable file ({error.strerror})'
    if stat.S_ISDIR(status.st_mode):
        return 'folder'
    if not stat.S_ISREG(status.st_mode):
        return 'no regular file'
    return None if status.st_size else 'empty file (0 bytes)'


def existing(path: str | os.PathLike) -> Path:
    """``path`` where it is a file with something in it; ConfigError where not, with near names where nothing is there."""
    path, fault = Path(path), file_fault(path)
    if fault == 'missing file':
        near = sorted(entry.name for entry in path.parent.iterdir()) if path.parent.is_dir() else []
        raise ConfigError(f'no file {str(path)!r} in {Path.cwd()}; {candidates(path.name, near)}')
    if fault is not None:
        raise ConfigError(f'{str(path)!r}: found a file that cannot be read: {fault}; put the right one there')
    return path


def clip(text: str, most: int = ECHO) -> str:
    """The beginning of a text from a file, for a message: a field may have millions of characters."""
    return text if len(text) <= most else f'{text[:most]}... ({len(text):,} characters)'


def near_names(wrong: str, allowed: Iterable[str], most: int = 12) -> str:
    """Candidates as of :func:`~mmsskd.errors.candidates`, for names that come from a file."""
    return candidates(clip(wrong), map(clip, allowed), most)


def is_whole(text: str) -> bool:
    """Whether a text is a whole number from 0 that int64 holds; ``str.isdigit`` also takes a superscript for one."""
    return text.isascii() and text.isdigit() and len(text) <= 18
