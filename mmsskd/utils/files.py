"""Files and folders that are whole or not there: written beside their place, then renamed."""

import json
import os
import re
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import ConfigError


@contextmanager
def replacing(path: str | os.PathLike, suffix: str = '') -> Iterator[Path]:
    """Write to the yielded path, which takes the place of ``path`` at the end; after an exception it is gone.

    No other process of any machine writes to the same one, so ranks may write the same file at once.

    Args:
        path: The file. Missing folders are made.
        suffix: Of the yielded path, for writers that look at it, such as ``'.py'``.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with replacing(f'{folder}/numbers.txt') as part:
        ...         written = part.write_text('1 2 3')
        ...     Path(folder, 'numbers.txt').read_text()
        '1 2 3'
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f'{path.name}.{uuid.uuid4().hex[:8]}.part{suffix}')
    try:
        yield part
        os.replace(part, path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def remove_parts(folder: str | Path) -> None:
    """Remove what :func:`replacing` has left of files that a kill kept from their places. Nobody else may be writing there."""
    for path in Path(folder).glob('*.part*'):
        if re.search(r'\.[0-9a-f]{8}\.part(\.\w+)?$', path.name):
            path.unlink(missing_ok=True)


def write_text(path: str | Path, text: str) -> None:
    """Write a text file beside its place, then rename it. Halves of characters, as file names may have, are written as escapes."""
    with replacing(path) as part:
        part.write_text(text, encoding='utf-8', errors='backslashreplace')


@contextmanager
def new_folder(out_dir: str | Path) -> Iterator[Path]:
    """Fill the yielded folder, ``<out_dir>.part``, which gets its name at the end; after an exception it is gone.

    Raises:
        ConfigError: ``out_dir`` is there and not an empty folder.
    """
    folder = Path(out_dir).resolve()
    part = folder.with_name(folder.name + '.part')
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise ConfigError(f'{str(out_dir)!r} holds something already; choose another folder or remove it')
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        yield part
        part.rename(folder)  # also onto an empty folder
    except BaseException:
        shutil.rmtree(part)
        raise


def holds_set(folder: Path, info: dict) -> bool:
    """Whether ``folder`` holds the data set that ``info`` describes, as its ``info.json`` says.

    Raises:
        ConfigError: It holds anything else.
    """
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return False
    try:
        content = json.loads((folder / 'info.json').read_text())
        other = {key: content.get(key) for key in info if content.get(key) != info[key]}
    except (OSError, ValueError, AttributeError):
        raise ConfigError(f'{str(folder)!r} holds something else; choose another folder or remove it') from None
    if other:
        found = ', '.join(f'{key} {value} (asked for: {info[key]})' for key, value in other.items())
        raise ConfigError(f'{str(folder)!r} holds a data set with {found}; choose another folder or remove it')
    return True
