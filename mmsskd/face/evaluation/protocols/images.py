"""Image files of a protocol: their paths and what is wrong with them."""

import os
import re
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from ....errors import ConfigError
from ..protocol import PairProtocol, TemplateProtocol
from .files import clip, file_fault

SUFFIXES = ('.jpg', '.jpeg', '.png', '.bmp', '.pgm', '.ppm', '.tif', '.tiff', '.webp')
SHOWN = 3  # files of one fault that a message names


def file_faults(protocol: TemplateProtocol | PairProtocol) -> dict[int, str]:
    """Find what is wrong with image files, by the index of the face, ascending: see :func:`file_fault`. Nothing is decoded."""
    files = protocol.faces.files.tolist()
    found = {file: file_fault(os.path.join(protocol.root, file)) for file in dict.fromkeys(files)}
    return {index: found[file] for index, file in enumerate(files) if found[file]}


def describe_faults(protocol: TemplateProtocol | PairProtocol, faults: Mapping[int, str]) -> str:
    """List the files that have a fault, the first ones of each: ``'missing file: a.jpg, b.jpg; folder: c.jpg'``."""
    by_fault: dict[str, dict[str, None]] = defaultdict(dict)
    for index, fault in faults.items():
        by_fault[fault][clip(str(protocol.faces.files[index]))] = None
    texts = []
    for fault, files in by_fault.items():
        more = f', ... ({len(files)} in all)' if len(files) > SHOWN else ''
        texts.append(f'{fault}: {", ".join(list(files)[:SHOWN])}{more}')
    return '; '.join(texts)


def resolve_files(
    root: str | Path, files: Sequence[str], origin: Callable[[int], str], allow_outside: bool = False
) -> np.ndarray:
    """The files that are really there, as paths below ``root``, (F,) of str.

    Copies of IJB-A name files otherwise than its lists do: ``img/1.JPG`` or ``img/1.png`` for ``img/1.jpg``. A file that is not
    there by its own name is sought in its folder by the name without ending, whatever the case; what is not found stays as it is.

    Args:
        root: The folder of the images.
        files: As a list names them.
        origin: From the index of a file to the place that names it, for the error.
        allow_outside: Take absolute paths and those with ``..`` too; a list from elsewhere could name any file of this machine.

    Raises:
        ConfigError: A file is outside ``root`` and that is not allowed.
    """
    for index, file in enumerate(files):
        if '\0' in file or (not allow_outside and _is_outside(file)):
            raise ConfigError(
                f'{origin(index)}: found the image file {clip(file)!r}; it must be below {str(root)!r}: neither absolute nor '
                'with "..". Correct the list or the image folder, or, if you trust the list, set allow_outside=True '
                '(--allow-outside)'
            )
    listing, own = _Listing(root), set(files)
    found = [file if listing.has(file) else listing.other(file) for file in files]
    # the file of another face is no stand-in: img/1.png is not img/1.jpg where the protocol has both
    return np.array([new if new == file or new not in own else file for file, new in zip(files, found)])


def image_root(root: Path, images: str | Path | None, inner: Sequence[str]) -> str:
    """The image folder of a protocol: ``images`` if given, ``root/images``, or ``root`` where it has an ``inner`` folder.

    Raises:
        ConfigError: ``images`` is given and no folder.
    """
    if images is not None:
        if not Path(images).is_dir():
            raise ConfigError(f'images: no folder {str(images)!r} in {Path.cwd()}; it must hold {", ".join(inner)}')
        return str(images)
    direct = not (root / 'images').is_dir() and any((root / name).is_dir() for name in inner)
    return str(root if direct else root / 'images')


def _is_outside(file: str) -> bool:
    if '..' in file and '..' in re.split(r'[/\\]', file):
        return True
    return file.startswith(('/', '\\')) or bool(os.path.splitdrive(file)[0])


class _Listing:
    """The names in the folders below a root, each folder read once, when it is first asked for."""

    def __init__(self, root: str | Path):
        self.root = str(root)
        self._names: dict[str, dict[str, bool]] = {}  # of each folder what is in it, and whether that is a folder
        self._stems: dict[str, dict[str, list[str]]] = {}

    def has(self, file: str) -> bool:
        folder, name = os.path.split(file)
        names = self._names.get(folder)
        if names is None:
            try:
                with os.scandir(os.path.join(self.root, folder)) as entries:
                    names = {entry.name: entry.is_dir() for entry in entries}
            except OSError:  # no such folder: nothing is in it
                names = {}
            self._names[folder] = names
        return name in names

    def other(self, file: str) -> str:
        """A file of the same folder and name but for case and ending; ``file`` itself where there is none."""
        folder, name = os.path.split(file)
        if folder not in self._stems:
            stems = self._stems[folder] = defaultdict(list)
            for found, is_folder in sorted(self._names[folder].items()):
                stem, suffix = os.path.splitext(found)
                if suffix.lower() in SUFFIXES and not is_folder:
                    stems[stem.lower()].append(found)
        same = self._stems[folder].get(os.path.splitext(name)[0].lower())
        if not same:
            return file
        return file[: len(file) - len(name)] + min(same, key=lambda one: (one.lower() != name.lower(), one))
