"""IJB-A in the layout in which NIST distributed it."""

import operator
from collections.abc import Sequence
from pathlib import Path

from ....errors import ConfigError, candidates
from ..protocol import Identification, Split, TemplateProtocol
from .comparisons import read_comparisons
from .face_rows import BOX, FaceRows
from .files import existing
from .images import image_root

SETS_11 = ('IJB-A_11_sets', 'protocols/IJB-A_11_sets', 'protocol_11')
SETS_1N = ('IJB-A_1N_sets', 'protocols/IJB-A_1N_sets', 'protocol_1N')


def read_ijba(
    root: str | Path,
    landmarks: str | Path | None = None,
    images: str | Path | None = None,
    sets_11: str | Path | None = None,
    sets_1n: str | Path | None = None,
    splits: Sequence[int] = range(1, 11),
    allow_outside: bool = False,
) -> TemplateProtocol:
    """IJB-A (B. Klare et al., Pushing the Frontiers of Unconstrained Face Detection and Recognition: IARPA Janus Benchmark A,
    CVPR 2015), 1:1 and 1:N, from a copy of one's own.

    ``root`` holds ``images/`` (or ``img/`` and ``frame/``) and one or both of ``IJB-A_11_sets/`` and ``IJB-A_1N_sets/``, or these
    under ``protocols/``, or ``protocol_11/`` and ``protocol_1N/``; in each a folder ``split1/`` to ``split10/``. Of the 1:1 task
    ``verify_metadata_N.csv`` and ``verify_comparisons_N.csv`` are read, of the 1:N task ``search_gallery_N.csv`` and
    ``search_probe_N.csv``; columns by name. The three points that the files give are not used: too many are missing.

    Args:
        root: The folder of the copy.
        landmarks: CSV file of five points for each face (see ``read_landmarks``); None: ``root/landmarks.csv`` where there is one.
        images: The folder that ``img/`` and ``frame/`` are in, where it is none of the above.
        sets_11, sets_1n: The folders of the splits, where they are none of the above.
        splits: Which, from 1.
        allow_outside: FILE may be absolute or have ``..`` in it.

    Returns:
        The protocol with splits ``'split1'`` and so on. A face is a FILE and a SIGHTING_ID, over all splits and both tasks, and its
        key is the FILE, or ``FILE#SIGHTING_ID`` where the file has several. The real lists write the box of one face with other
        digits in different splits: numbers up to 1e-3 pixels apart are the same, and the lowest is kept, so that the order of
        splits does not matter. A probe's subject may have no enrol template.

    Raises:
        ConfigError: Neither task is there, a split is incomplete, or a file contradicts itself or another; the message names
            file, row and column.
    """
    root = Path(root)
    if not root.is_dir():
        near = sorted(entry.name for entry in root.parent.iterdir()) if root.parent.is_dir() else []
        raise ConfigError(f'IJB-A: no folder {str(root)!r} in {Path.cwd()}; {candidates(root.name, near)}')
    folder_11, folder_1n = _sets(root, 'sets_11', sets_11, SETS_11), _sets(root, 'sets_1n', sets_1n, SETS_1N)
    if folder_11 is None and folder_1n is None:
        there = ', '.join(sorted(entry.name for entry in root.iterdir())[:20]) or 'nothing'
        raise ConfigError(
            f'IJB-A: {str(root)!r} has none of {", ".join(SETS_11 + SETS_1N)}; in it: {there}. Give sets_11 or sets_1n'
        )
    numbers = _numbers(splits)
    folder = image_root(root, images, ('img', 'frame'))
    rows, found = FaceRows('FILE', ('MEDIA_ID', 'SIGHTING_ID', *BOX)), []
    for number in numbers:
        verification, identification = None, tuple[Identification, ...]()
        if folder_11 is not None:
            metadata, comparisons = _files(folder_11, number, 'verify_metadata', 'verify_comparisons')
            verification = read_comparisons(comparisons, rows.read([metadata]))
        if folder_1n is not None:
            gallery, probes = _files(folder_1n, number, 'search_gallery', 'search_probe')
            identification = (Identification('', rows.read([gallery]), rows.read([probes])),)
        found.append(Split(f'split{number}', verification, identification))
    if landmarks is None and (root / 'landmarks.csv').exists():
        landmarks = root / 'landmarks.csv'
    return TemplateProtocol('IJB-A', rows.faces(folder, landmarks, allow_outside), tuple(found), folder)


def _sets(root: Path, option: str, given: str | Path | None, usual: Sequence[str]) -> Path | None:
    if given is not None:
        if not Path(given).is_dir():
            raise ConfigError(
                f'IJB-A: {option}: no folder {str(given)!r} in {Path.cwd()}; it must hold split1 to split10'
            )
        return Path(given)
    return next((root / name for name in usual if (root / name).is_dir()), None)


def _numbers(splits: Sequence[int]) -> list[int]:
    """Whole numbers only: 'split1' as a text is also in 'split10'."""
    try:
        numbers = [operator.index(number) for number in splits]
    except TypeError:
        raise ConfigError(f'IJB-A: splits must be whole numbers, for instance [1, 2], found {splits!r}') from None
    if not numbers or len(set(numbers)) < len(numbers) or min(numbers) < 1:
        raise ConfigError(f'IJB-A: splits must be different whole numbers from 1, found {list(splits)!r}')
    return numbers


def _files(sets: Path, number: int, *names: str) -> list[Path]:
    folder = sets / f'split{number}'
    files = [folder / f'{name}_{number}.csv' for name in names]
    for file in files:
        if not file.exists():
            near = sorted(entry.name for entry in (folder if folder.is_dir() else sets).iterdir())
            raise ConfigError(
                f'IJB-A: no file {str(file)!r}; complete the copy, or choose other splits. In the folder: {", ".join(near[:12])}'
            )
        existing(file)
    return files
