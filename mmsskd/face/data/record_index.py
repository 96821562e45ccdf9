"""Index of a RecordIO file: its ``.idx`` read and written, or made from the file itself.

``.idx`` is text, a line ``key<TAB>offset`` a record; the offset, in bytes, is that of the record's magic number. The keys are whole
numbers from 0, which need not be ascending or without gaps.
"""

import os
import struct
import warnings
from array import array
from mmap import ACCESS_READ, mmap
from pathlib import Path

import numpy as np

from ...errors import ConfigError
from ...utils.files import replacing

MAGIC = 0xCED7230A
MAGIC_BYTES = struct.pack('<I', MAGIC)
HEAD = struct.Struct('<II')  # magic, kind << 29 | length
IMAGE_HEADER = struct.Struct('<IfQQ')  # flag, label, id, id2
ID = struct.Struct('<q')  # the first of the two, 8 bytes into that header
MOST = (1 << 29) - 1  # bytes in a payload
BLOCK = 4 << 20  # bytes of an .idx parsed at once
DIGITS = 18  # of a number that an int64 holds


def read_idx(path: str | Path) -> tuple[np.ndarray, np.ndarray]:
    """Keys and offsets, (N,) of int64 each, of an ``.idx`` file.

    Raises:
        ConfigError: A line is not two whole numbers from 0, or there is none.
    """
    most = os.path.getsize(path) // 4 + 1  # a line has at least 4 bytes; pages that are never written take no memory
    keys, offsets = np.empty(most, np.int64), np.empty(most, np.int64)
    count, rest = 0, b''
    with open(path, 'rb') as file:
        while block := file.read(BLOCK):
            rest += block
            cut = rest.rstrip().rfind(b'\n') + 1  # what is blank waits: only at the end of the file it is no error
            if cut:
                count += _parse(rest[:cut], path, count, keys, offsets)
                rest = rest[cut:]
    if rest.strip():
        count += _parse(rest.rstrip() + b'\n', path, count, keys, offsets)
    if not count:
        raise ConfigError(f'{str(path)!r} is empty; remove it to have it made from the .rec')
    keys.resize(count, refcheck=False)  # in place, where a slice would hold all of it
    offsets.resize(count, refcheck=False)
    return keys, offsets


def _parse(text: bytes, path: str | Path, done: int, keys: np.ndarray, offsets: np.ndarray) -> int:
    """Write the lines of ``text`` after the first ``done`` of both arrays; returns how many they are."""
    lines = text.count(b'\n')
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('error', DeprecationWarning)  # how numpy says that it stopped at what is no number
            values = np.fromstring(text, np.int64, sep=' ')
    except (ValueError, DeprecationWarning):
        values = np.empty(0, np.int64)
    if len(values) != 2 * lines or text.count(b'\t') != lines or values.min() < 0 or values.max() >= 10**DIGITS:
        for number, line in enumerate(text.split(b'\n')[:-1], done + 1):
            fields = [field.strip() for field in line.split(b'\t')]
            if len(fields) != 2 or not all(field.isdigit() and len(field) <= DIGITS for field in fields):
                found = line[:60].decode('ascii', 'backslashreplace')
                raise ConfigError(
                    f'{str(path)!r}, line {number}: expected key<TAB>offset, two whole numbers, found {found!r}; copy it again, '
                    'or remove it to have it made from the .rec'
                )
    keys[done : done + lines], offsets[done : done + lines] = values[::2], values[1::2]
    return lines


def write_idx(path: str | Path, keys: np.ndarray, offsets: np.ndarray) -> None:
    """Write an index beside its name, then rename it.

    Raises:
        ConfigError: A key is there twice.
    """
    if len(np.unique(keys)) < len(keys):
        raise ConfigError(f'{str(path)!r}: each record needs a key of its own')
    with replacing(path) as part, part.open('w') as file:
        for start in range(0, len(keys), 100_000):
            rows = zip(keys[start : start + 100_000].tolist(), offsets[start : start + 100_000].tolist())
            file.writelines(f'{key}\t{offset}\n' for key, offset in rows)


def scan_records(path: str | Path) -> tuple[np.ndarray, np.ndarray]:
    """Keys and offsets, (N,) of int64 each, from the ``.rec`` file itself, by going from record to record.

    Returns:
        Offsets in ascending order; as keys the ids in the images' headers where they are distinct, else 0, 1, and so on.

    Raises:
        ConfigError: There is no record where one must begin, or the file ends inside one.
    """
    size, offset, expected = os.path.getsize(path), 0, (0, 1)
    offsets, ids = array('q'), array('q')
    if not size:
        raise ConfigError(f'{str(path)!r} is empty')
    with open(path, 'rb') as file, mmap(file.fileno(), 0, access=ACCESS_READ) as content:
        while offset < size or expected != (0, 1):
            where = f'{str(path)!r}, record number {len(offsets)} at byte {offset}'
            cut = offset + HEAD.size > size
            magic, word = (MAGIC, expected[0] << 29 | MOST) if cut else HEAD.unpack_from(content, offset)
            kind, length = word >> 29, word & MOST
            if magic != MAGIC or kind not in expected:
                raise ConfigError(f'{where}: no record begins there. The file is damaged; copy it again.')
            if offset + HEAD.size + length > size:
                raise ConfigError(f'{where} is cut off: the file ends at byte {size}. It is incomplete; copy it again.')
            if kind in (0, 1):
                offsets.append(offset)
                ids.append(ID.unpack_from(content, offset + HEAD.size + 8)[0] if length >= IMAGE_HEADER.size else -1)
            expected = (0, 1) if kind in (0, 3) else (2, 3)
            offset += HEAD.size + length + -length % 4
    keys = np.array(ids, np.int64)
    if keys.min() < 0 or len(np.unique(keys)) < len(keys):
        keys = np.arange(len(keys))
    return keys, np.array(offsets, np.int64)
