"""Files of embeddings, ``.npz``, from any framework: features by the keys of faces."""

import os
import zipfile
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ...errors import ConfigError, candidates
from .protocol import Faces

ARRAYS = ('keys', 'features', 'features_flip', 'detector_scores')


@dataclass(frozen=True, eq=False)
class Embeddings:
    """The features of a protocol's F faces, in its order.

    Attributes:
        features: (F, D), of the file's float type; NaN where the file has no such face.
        features_flip: (F, D), of the mirrored crops, or None.
        faces: The protocol's faces, with the file's detector scores where it has some.
        missing: How many faces of the protocol the file does not have.
        extra: How many faces of the file the protocol does not have.
    """

    features: np.ndarray
    features_flip: np.ndarray | None
    faces: Faces
    missing: int
    extra: int


def write_embeddings(
    path: str | os.PathLike,
    keys: np.ndarray,
    features: np.ndarray,
    features_flip: np.ndarray | None = None,
    detector_scores: np.ndarray | None = None,
) -> None:
    """Write embeddings, beside ``path`` first.

    Args:
        path: Of the file, ``.npz``.
        keys: (F,) of str, the faces' keys.
        features: (F, D) of float; NaN for a failure to enrol.
        features_flip: (F, D), of the mirrored crops.
        detector_scores: (F,) of float.
    """
    arrays = dict(zip(ARRAYS, (np.asarray(keys).astype(str), features, features_flip, detector_scores)))
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with open(f'{path}.part', 'wb') as file:
        np.savez(file, **{name: array for name, array in arrays.items() if array is not None})
    os.replace(f'{path}.part', path)


def read_embeddings(path: str | os.PathLike, faces: Faces, strict: bool = True) -> Embeddings:
    """Read embeddings and put them into the order of ``faces``, by key. Nothing in the file is executed (no pickle).

    Args:
        path: An ``.npz`` with ``keys`` (n,) of str, ``features`` (n, D) of float, and if you like ``features_flip`` (n, D) and
            ``detector_scores`` (n,).
        faces: The protocol's.
        strict: A face of the protocol that the file does not have is an error; False: it is a failure to enrol. Faces of the
            file that the protocol does not have are counted.

    Raises:
        ConfigError: The file is missing or no such file, arrays that do not agree, a key twice, or missing faces under ``strict``.
    """
    arrays = _read(Path(path))
    keys = arrays.pop('keys')
    # the file in the protocol's order needs no copy of its features
    if np.array_equal(keys, faces.keys):
        place, extra = None, 0
        found = np.ones(len(faces), bool)
    else:
        place, found = _look_up(keys, faces.keys, path)
        extra = len(keys) - int(found.sum())
    missing = int(np.count_nonzero(~found))
    if missing and strict:
        raise ConfigError(_about_missing(path, keys, faces.keys, found))
    if place is not None:
        for name in list(arrays):
            arrays[name] = arrays.pop(name)[place]
            arrays[name][~found] = np.nan
    scores = arrays.get('detector_scores')
    if scores is not None:
        faces = replace(faces, scores=scores.astype(np.float32))
    return Embeddings(arrays['features'], arrays.get('features_flip'), faces, missing, extra)


def _look_up(keys: np.ndarray, wanted: np.ndarray, path) -> tuple[np.ndarray, np.ndarray]:
    """For each wanted key its place among ``keys``, and whether it is there."""
    order = np.argsort(keys, kind='stable')
    in_order = keys[order]
    twice = np.flatnonzero(in_order[1:] == in_order[:-1])
    if len(twice):
        first, second = order[twice[0] : twice[0] + 2].tolist()
        raise ConfigError(
            f"{str(path)!r}: 'keys' must be unique; {len(twice)} are there more than once, for instance "
            f'{str(in_order[twice[0]])!r} in rows {first} and {second}. Write each face once'
        )
    place = np.searchsorted(in_order, wanted).clip(max=max(len(keys) - 1, 0))
    if not len(keys):
        raise ConfigError(f'{str(path)!r} has no faces, the protocol has {len(wanted)}')
    return order[place], in_order[place] == wanted


def _about_missing(path, keys: np.ndarray, wanted: np.ndarray, found: np.ndarray) -> str:
    without = wanted[~found]
    some = ', '.join(map(repr, without[:3].tolist())) + (', ...' if len(without) > 3 else '')
    near = candidates(str(without[0]), map(str, keys[:2000].tolist()), most=5)
    return (
        f'{str(path)!r} has no features of {len(without)} of the {len(wanted)} faces: {some}; {near}. '
        'Embed them all (NaN for a failure to enrol; tools/face/list_faces.py lists the keys), or count the missing ones as '
        'failures to enrol (strict=False, --allow-missing)'
    )


def _read(path: Path) -> dict[str, np.ndarray]:
    """The file's arrays, checked."""
    if not path.is_file():
        near = sorted(file.name for file in path.parent.glob('*.npz')) if path.parent.is_dir() else []
        raise ConfigError(f'no file {str(path)!r} in {Path.cwd()}; {candidates(path.name, near)}')
    where = f'{str(path)!r}'
    try:
        with np.load(path, allow_pickle=False) as file:
            names = list(file.files)
            arrays = {name: file[name] for name in ARRAYS if name in names}
    except (ValueError, OSError, EOFError, TypeError, zipfile.BadZipFile) as error:
        raise ConfigError(f'cannot read {where} as an .npz of plain arrays without pickle ({error})') from error
    for name in ('keys', 'features'):
        if name not in arrays:
            raise ConfigError(f'{where} has no array {name!r}; {candidates(name, names)}')
    keys, count = arrays['keys'], len(arrays['features']) if arrays['features'].ndim else 0
    if keys.dtype.kind == 'S':
        arrays['keys'] = np.char.decode(keys, 'utf-8')
    elif keys.dtype.kind in 'iu':
        arrays['keys'] = keys.astype(str)
    if keys.ndim != 1 or arrays['keys'].dtype.kind != 'U' or len(keys) != count:
        raise ConfigError(
            f"{where}: 'keys' must be text of shape (n,), n the rows of 'features' ({count}), found {keys.dtype} {keys.shape}"
        )
    for name, array in arrays.items():
        if name == 'keys':
            continue
        shape = (count,) if name == 'detector_scores' else arrays['features'].shape
        if array.dtype.kind != 'f' or array.ndim != (1 if name == 'detector_scores' else 2) or array.shape != shape:
            needed = '(n,)' if name == 'detector_scores' else '(n, D)'
            raise ConfigError(
                f'{where}: {name!r} must be float of shape {needed}, n the number of keys ({count}), '
                f'found {array.dtype} {array.shape}'
            )
    return arrays
