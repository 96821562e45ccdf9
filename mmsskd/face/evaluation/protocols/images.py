"""Where the image files of a protocol are."""

import os
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ....errors import ConfigError
from ..protocol import PairProtocol, TemplateProtocol

SUFFIXES = ('.jpg', '.jpeg', '.png', '.bmp', '.pgm', '.ppm', '.tif', '.tiff', '.webp')


def missing_files(protocol: TemplateProtocol | PairProtocol) -> list[int]:
    """Indices of the faces whose image file is not there, ascending. Each folder is listed once."""
    files = protocol.faces.files.tolist()
    listing = _Listing(protocol.root)
    return [index for index, file in enumerate(files) if not listing.has(file)]


def resolve_files(root: str | Path, files: Sequence[str]) -> np.ndarray:
    """The files that are really there, as paths below ``root``, (F,) of str.

    Copies of IJB-A name files otherwise than its lists do: ``img/1.JPG`` or ``img/1.png`` for ``img/1.jpg``. A file that is not
    there by its own name is sought in its folder by the name without ending, whatever the case; what is not found stays as it is.
    """
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


class _Listing:
    """The names in the folders below a root, each folder read once, when it is first asked for."""

    def __init__(self, root: str | Path):
        self.root = str(root)
        self._names: dict[str, set[str]] = {}
        self._stems: dict[str, dict[str, list[str]]] = {}

    def has(self, file: str) -> bool:
        folder, _, name = file.rpartition('/')
        names = self._names.get(folder)
        if names is None:
            try:
                names = set(os.listdir(os.path.join(self.root, folder)))
            except OSError:  # no such folder: nothing is in it
                names = set()
            self._names[folder] = names
        return name in names

    def other(self, file: str) -> str:
        """A file of the same folder and name but for case and ending; ``file`` itself where there is none."""
        folder, slash, name = file.rpartition('/')
        if folder not in self._stems:
            stems = self._stems[folder] = defaultdict(list)
            for found in sorted(self._names[folder]):
                stem, suffix = os.path.splitext(found)
                if suffix.lower() in SUFFIXES:
                    stems[stem.lower()].append(found)
        found = self._stems[folder].get(os.path.splitext(name)[0].lower())
        if not found:
            return file
        return folder + slash + min(found, key=lambda one: (one.lower() != name.lower(), one))
