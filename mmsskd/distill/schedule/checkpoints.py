"""Checkpoints of a work dir: which one a run goes on from."""

import glob
import os
import re
import zipfile
from collections.abc import Callable
from pathlib import Path

KINDS = ('epoch_*.pth', 'iter_*.pth', 'phase*_*.pth')


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
