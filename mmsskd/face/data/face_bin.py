"""Pairs of aligned faces in InsightFace's ``.bin`` files (lfw, cfp_fp, agedb_30, ...), read without running pickled code."""

import pickle
import warnings
from pathlib import Path

import numpy as np

from ...errors import ConfigError, candidates
from ...utils.files import new_folder
from ...utils.safe_pickle import load_data, shown
from ..evaluation.protocol import Faces, PairProtocol
from .record_folders import ENCODED

MOST_BYTES = 4 << 30  # of a file; the largest published ones hold 14,000 images of 112x112
MOST_IMAGES = 4_000_000
FOLDS = 10


def read_bin(path: str | Path) -> tuple[list[bytes], np.ndarray]:
    """Read an InsightFace ``.bin``: a pickle of 2 * P encoded images and P flags. Pair i is images 2 * i and 2 * i + 1.

    Nothing that the file names is run: see :func:`~mmsskd.utils.safe_pickle.load_data`. Pickles of Python 2 and 3, protocols 0 to
    5, images as bytes, bytearrays or arrays of uint8, flags as truth values or as 0 and 1, of shape (P,) or (P, 1).

    Returns:
        The images, JPEG or PNG, and (P,) of bool: the same person.

    Raises:
        ConfigError: The file is missing, too large, damaged, or holds anything else.
    """
    path = Path(path)
    where = repr(str(path))
    if not path.is_file():
        near = sorted(file.name for file in path.parent.glob('*.bin'))
        raise ConfigError(f'no file {where} in {Path.cwd()}; {candidates(path.name, near)}')
    if path.stat().st_size > MOST_BYTES:
        raise ConfigError(f'{where} has {path.stat().st_size} bytes; files of pairs have at most {MOST_BYTES}')
    try:
        with path.open('rb') as file:
            content = load_data(file, encoding='bytes')
    except pickle.UnpicklingError as error:
        raise ConfigError(f'cannot read {where} as pickled images and flags: {error}') from error
    if not isinstance(content, (tuple, list)) or len(content) != 2:
        raise ConfigError(f'{where} must hold two things, images and flags, found {_kind(content)}')
    images, same = content
    if not isinstance(images, (list, tuple)) or not (
        isinstance(same, (list, tuple)) or (isinstance(same, np.ndarray) and same.ndim)
    ):
        raise ConfigError(
            f'{where} must hold a list of images and a list of flags, found {_kind(images)} and {_kind(same)}'
        )
    if len(images) > MOST_IMAGES:
        raise ConfigError(f'{where} holds {len(images)} images, more than {MOST_IMAGES}')
    if len(images) != 2 * len(same) or not images:
        raise ConfigError(f'{where} holds {len(images)} images and {len(same)} flags; there must be two images a flag')
    return [_image(image, number, where) for number, image in enumerate(images)], _flags(same, where)


def _image(image, number: int, where: str) -> bytes:
    if isinstance(image, np.ndarray) and image.dtype == np.uint8 and image.ndim == 1:
        image = image.tobytes()
    elif isinstance(image, bytearray):
        image = bytes(image)
    if not isinstance(image, bytes) or not image.startswith(tuple(ENCODED)):
        found = f'{len(image)} bytes, {image[:8].hex(" ")} ...' if isinstance(image, bytes) else _kind(image)
        raise ConfigError(f'{where}: image {number} must be the bytes of a JPEG or PNG file, found {found}')
    return image


def _flags(same, where: str) -> np.ndarray:
    """Flags are truth values, or 0 and 1 of any type; each may be alone in a list or array, as in labels of shape (N, 1)."""
    kinds = (bool, int, float, np.bool_, np.number)
    flags = [flag.item() if isinstance(flag, np.ndarray) and flag.shape == (1,) else flag for flag in same]
    flags = [flag[0] if isinstance(flag, (list, tuple)) and len(flag) == 1 else flag for flag in flags]
    wrong = [flag for flag in flags if not isinstance(flag, kinds) or flag not in (0, 1)]
    if wrong:
        raise ConfigError(f'{where}: flags must be True or False, or 1 or 0, found {shown(wrong[0])}')
    return np.array([bool(flag) for flag in flags])


def _kind(content) -> str:
    if isinstance(content, np.ndarray):
        return f'an array, {content.dtype} {content.shape}'
    return type(content).__name__ + (f' of {len(content)}' if hasattr(content, '__len__') else '')


def pair_protocol_of_bin(name: str, same: np.ndarray) -> PairProtocol:
    """The pairs of a ``.bin`` file as a protocol: ten folds of neighbors, as InsightFace and scikit-learn's KFold cut them.

    Where P is no multiple of ten, the first P % 10 folds have one pair more. A fold with pairs of one kind only, as in a file that
    is sorted by its flags, makes the ten-fold accuracy meaningless; it is warned of.

    Args:
        name: What the numbers are called.
        same: (P,) of bool, as ``read_bin`` returns it.

    Returns:
        A protocol whose faces are named by their places in the file, ``'0'`` and so on, without boxes and landmarks.

    Raises:
        ConfigError: Fewer than ten pairs.
    """
    count = len(same)
    if count < FOLDS:
        raise ConfigError(f'{name}: {FOLDS} folds need at least {FOLDS} pairs, found {count}')
    folds = np.concatenate([np.full(len(part), fold) for fold, part in enumerate(np.array_split(same, FOLDS))])
    genuine = np.bincount(folds, same, FOLDS)
    uniform = (genuine == 0) | (genuine == np.bincount(folds))
    if uniform.any():
        warnings.warn(
            f'{name}: {uniform.sum()} of {FOLDS} folds have pairs of one kind only, as in a file that is sorted by its flags; '
            'its ten-fold accuracy says nothing. Mix the pairs evenly.',
            stacklevel=2,
        )
    keys = np.arange(2 * count).astype(str)
    boxes, landmarks, scores = (np.full((2 * count, *shape), np.nan, np.float32) for shape in ((4,), (5, 2), ()))
    faces = Faces(keys, keys, boxes, landmarks, scores)
    pairs = np.arange(2 * count, dtype=np.int32).reshape(-1, 2)
    return PairProtocol(name, faces, pairs, np.asarray(same, bool), folds.astype(np.int32))


def bin_to_folder(path: str | Path, out_dir: str | Path) -> tuple[int, int]:
    """Write a ``.bin`` file as images and ``pairs.txt``, so that later runs need no pickle: ``read_lfw_pairs`` takes them.

    Images keep their bytes and are named by their places in the file; ``pairs.txt`` has the form of CALFW and CPLFW, two lines
    ``file label`` a pair in the order of the file, label 1 for a genuine pair and 0 for another. Its reader gives each of ten folds
    its share of both kinds, which in files like InsightFace's own, with equal numbers in each fold, are the folds of the ``.bin``.

    Returns:
        Numbers of pairs and of genuine pairs.

    Raises:
        ConfigError: What ``read_bin`` raises; ``out_dir`` holds something.
    """
    images, same = read_bin(path)
    digits = len(str(len(images) - 1))
    with new_folder(out_dir) as folder:
        lines = []
        for number, image in enumerate(images):
            suffix = next(suffix for begin, suffix in ENCODED.items() if image.startswith(begin))
            lines.append(f'{number:0{digits}}{suffix} {int(same[number // 2])}\n')
            (folder / lines[-1].split()[0]).write_bytes(image)
        (folder / 'pairs.txt').write_text(''.join(lines))
    return len(same), int(same.sum())
