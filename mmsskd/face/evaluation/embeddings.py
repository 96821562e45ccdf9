"""Files of embeddings, ``.npz``, from any framework: features by the keys of faces."""

import lzma
import math
import os
import struct
import sys
import zipfile
import zlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import ConfigError
from ...utils.files import replacing
from .protocol import Faces
from .protocols.files import clip, existing, near_names

ARRAYS = ('keys', 'features', 'features_flip', 'detector_scores')
MOST_DEFLATED = 1040  # bytes that one byte of a zip member can stand for, a little above what deflate can do
DAMAGED = (
    ValueError, TypeError, KeyError, OSError, EOFError, RuntimeError, NotImplementedError, MemoryError, OverflowError,
    struct.error, zlib.error, lzma.LZMAError, zipfile.BadZipFile,
)  # fmt: skip


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
    arrays: dict[str, Any] = dict(zip(ARRAYS, (np.asarray(keys).astype(str), features, features_flip, detector_scores)))
    with replacing(path) as part, part.open('wb') as file:
        np.savez(file, **{name: array for name, array in arrays.items() if array is not None})


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
    """Look up for each wanted key its place among ``keys``, and whether it is there."""
    order = np.argsort(keys, kind='stable')
    in_order = keys[order]
    twice = np.flatnonzero(in_order[1:] == in_order[:-1])
    if len(twice):
        first, second = order[twice[0] : twice[0] + 2].tolist()
        raise ConfigError(
            f"{str(path)!r}: 'keys' must be unique; {len(twice)} are there more than once, for instance "
            f'{clip(str(in_order[twice[0]]))!r} in rows {first} and {second}. Write each face once'
        )
    place = np.searchsorted(in_order, wanted).clip(max=max(len(keys) - 1, 0))
    if not len(keys):
        raise ConfigError(f'{str(path)!r} has no faces, the protocol has {len(wanted)}')
    return order[place], in_order[place] == wanted


def _about_missing(path, keys: np.ndarray, wanted: np.ndarray, found: np.ndarray) -> str:
    without = wanted[~found]
    some = ', '.join(repr(clip(key)) for key in without[:3].tolist()) + (', ...' if len(without) > 3 else '')
    near = near_names(str(without[0]), keys[:2000].tolist(), most=5)
    return (
        f'{str(path)!r} has no features of {len(without)} of the {len(wanted)} faces: {some}; {near}. '
        'Embed them all (NaN for a failure to enrol; tools/face/list_faces.py lists the keys), or count the missing ones as '
        'failures to enrol (strict=False, --allow-missing)'
    )


def _read(path: Path) -> dict[str, np.ndarray]:
    """The file's arrays, checked."""
    where = f'{str(existing(path))!r}'
    try:
        with zipfile.ZipFile(path) as file:
            names = [name.removesuffix('.npy') for name in file.namelist()]
            arrays = {name: _array(file, name) for name in ARRAYS if name in names}
    except DAMAGED as error:
        raise ConfigError(
            f'cannot read {where} as an .npz of plain arrays without pickle '
            f'({clip(str(error) or type(error).__name__, 300)}); write it again with numpy.savez'
        ) from error
    for name in ('keys', 'features'):
        if name not in arrays:
            raise ConfigError(f'{where} has no array {name!r}; {near_names(name, names)}')
    keys, count = arrays['keys'], len(arrays['features']) if arrays['features'].ndim else 0
    try:
        if keys.dtype.kind == 'S':
            arrays['keys'] = np.char.decode(keys, 'utf-8')
        elif keys.dtype.kind in 'iu':
            arrays['keys'] = keys.astype(str)
        elif keys.dtype.kind == 'U' and keys.size and keys.dtype.itemsize:
            # numpy itself does not look whether there are such characters
            native = keys.astype(keys.dtype.newbyteorder('='), copy=False).reshape(-1)
            if np.ascontiguousarray(native).view(np.uint32).max() > sys.maxunicode:
                raise ValueError('a character beyond Unicode')
    except ValueError as error:
        raise ConfigError(f"{where}: 'keys' must be text, as bytes in UTF-8 ({clip(str(error), 300)})") from error
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


def _array(file: zipfile.ZipFile, name: str) -> np.ndarray:
    """An array of the file; ValueError where it says that it is larger than what is there, before memory is taken for it."""
    member = file.getinfo(f'{name}.npy' if f'{name}.npy' in file.namelist() else name)
    with file.open(member) as stream:
        version = np.lib.format.read_magic(stream)
        if version not in ((1, 0), (2, 0)):
            raise ValueError(
                f'{name!r} is written in version {version} of the format, numpy writes plain arrays in (1, 0)'
            )
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read(stream)
        claimed, there = math.prod(shape) * dtype.itemsize, member.file_size - stream.tell()
    there = min(there, member.compress_size * MOST_DEFLATED, os.path.getsize(file.filename) * MOST_DEFLATED)
    if not dtype.hasobject and claimed > there:
        raise ValueError(
            f'{name!r} says that it is {dtype} {shape}, {claimed:,} bytes, and has at most {max(there, 0):,}'
        )
    with file.open(member) as stream:
        try:
            return np.lib.format.read_array(stream, allow_pickle=False)
        except MemoryError:
            raise ValueError(f'{name!r} is {dtype} {shape}, {claimed:,} bytes, more than the memory has') from None
