"""InsightFace's RecordIO, ``train.rec`` with ``train.idx`` and ``property``, read and written without mxnet.

The format, by dmlc-core's ``recordio.h`` and mxnet's ``recordio.py``, all little-endian: a record is the magic number, a word with
its kind in the upper 3 bits and its length in the lower 29, the payload, and zeros up to the next multiple of 4 bytes. Where the
payload holds the magic number at a multiple of 4 bytes, it is cut there into several records (kind 1 first, 2 middle, 3 last; 0 is
a whole one) and the number left out. An image's payload is a header (flag, label, two ids), ``flag`` labels of float32, and the
encoded image. The index is described in :mod:`~mmsskd.face.data.record_index`.
"""

import os
import struct
import warnings
from array import array
from contextlib import ExitStack
from io import FileIO
from pathlib import Path

import numpy as np

from ...errors import ConfigError, candidates
from ...utils.files import replacing
from .record_index import HEAD, IMAGE_HEADER, MAGIC, MAGIC_BYTES, MOST, read_idx, scan_records, write_idx

AT_ONCE = 16 << 10  # bytes read at first: a record of a 112x112 JPEG fits, so it costs one call
IMAGE_START = struct.Struct('<III')  # magic, length, flag


class RecordReader:
    """The records of a ``.rec`` file, in the order of its ``.idx``.

    The file is opened at the first read of each process and read without a shared position, so an instance may be used before and
    after a fork, and is pickled without the open file. 5.8 million records take 93 MB.

    Without ``.idx`` the file is scanned from record to record and the index written beside it, where the folder may be written to.
    Its keys are then the ids in the images' headers, which the usual writers set to the keys, or where those are not distinct the
    numbers of the records from 0. A damaged record stops the scan: nothing is skipped.

    An index must account for the whole file. Here its first and last record, and that no offset is there twice, are looked at,
    which needs one read; that each record between begins where another ends needs the length of each, so it is looked at where all
    headers are read anyway, in :func:`~mmsskd.face.data.record_labels.load_labels`.

    Args:
        path: The ``.rec`` file.
        idx: Its index; None: the file of the same name with the suffix ``.idx``.

    Attributes:
        keys, offsets: (N,) of int64, not writable: key of each record, and where its magic number is in the file, in bytes.
        size: Bytes of the file when it was looked at.

    Raises:
        ConfigError: A file is missing; the index is no index, names a key or an offset twice, points past the end, or leaves out
            the first or last bytes of the file; or the record that is last in the file is not whole.
    """

    def __init__(self, path: str | Path, idx: str | Path | None = None):
        self.path = str(path)
        self.idx_path = str(Path(path).with_suffix('.idx') if idx is None else idx)
        self._file: FileIO | None = None
        self._handle: int | None = None
        if not os.path.isfile(self.path):
            near = sorted(file.name for file in Path(path).parent.glob('*.rec'))
            raise ConfigError(f'no file {self.path!r} in {Path.cwd()}; {candidates(Path(path).name, near)}')
        self.size = os.path.getsize(self.path)
        if os.path.exists(self.idx_path):
            self.keys, self.offsets = read_idx(self.idx_path)
            self._check_index()
        elif idx is not None:
            raise ConfigError(
                f'no file {self.idx_path!r} in {Path.cwd()}; without idx= the index is made from the .rec'
            )
        else:
            self.keys, self.offsets = scan_records(self.path)
            self._keep_index()
        self.keys.flags.writeable = self.offsets.flags.writeable = False

    def __len__(self) -> int:
        return len(self.keys)

    def __getstate__(self) -> dict:
        return {**self.__dict__, '_file': None, '_handle': None}

    def where(self, place: int) -> str:
        """Name the record at ``place`` for a message: file, key and offset."""
        return f'{self.path!r}, record of key {self.keys[place]} at byte {self.offsets[place]}'

    def read(self, place: int) -> bytes:
        """The payload of the record at ``place`` in the index, its parts joined.

        Raises:
            ConfigError: There is no whole record.
        """
        return self._join(self._begin(place), int(self.offsets[place]), place)[0]

    def end(self, place: int) -> int:
        """Offset at which the record at ``place`` ends in the file, its last part's zeros included: where the next must begin.

        Raises:
            ConfigError: There is no whole record.
        """
        return self._join(self._begin(place), int(self.offsets[place]), place)[1]

    def read_image(self, place: int) -> np.ndarray:
        """The bytes of the image at ``place``, uint8 of shape (bytes,), none in records that stand for no image.

        Raises:
            ConfigError: There is no whole record, or it is too short for its labels.
        """
        block = self._begin(place)
        if len(block) >= IMAGE_HEADER.size:  # nearly always all of it; every call counts beside decoding
            magic, length, flag = IMAGE_START.unpack_from(block)
            start = HEAD.size + IMAGE_HEADER.size + 4 * flag
            if magic == MAGIC and start <= HEAD.size + length <= len(block):  # so its kind is 0
                return np.frombuffer(block, np.uint8, HEAD.size + length - start, start)
        payload, _ = self._join(block, int(self.offsets[place]), place)
        try:
            return np.frombuffer(payload, np.uint8, offset=image_start(payload))
        except ConfigError as error:
            raise ConfigError(f'{self.where(place)}: {error}') from error

    def _begin(self, place: int) -> bytes:
        """The first bytes of a record, all where it is no longer than others."""
        if self._file is None:
            self._file = open(self.path, 'rb', buffering=0)  # noqa: SIM115  stays open
            self._handle = self._file.fileno()
        offset, following = self.offsets.item(place), place + 1
        length = self.offsets.item(following) - offset if following < len(self.offsets) else AT_ONCE
        return os.pread(self._handle, length if HEAD.size < length < AT_ONCE else AT_ONCE, offset)

    def _join(self, block: bytes, offset: int, place: int) -> tuple[bytes, int]:
        """The payload of a record of any size and number of parts, whose bytes at ``offset`` begin with ``block``, and its end."""
        expected, parts = (0, 1), []
        while True:
            kind, length = self._head(block, offset, place)
            end = HEAD.size + length
            if kind not in expected:
                found = f'at byte {offset} is a part of kind {kind}, where {" or ".join(map(str, expected))} must be'
                raise ConfigError(f'{self.where(place)}: {found}. {self._advice()}')
            if len(block) < end:
                block += os.pread(self._handle, end - len(block), offset + len(block))
                self._check_end(offset, length, offset + len(block), place)
            parts.append(block[HEAD.size : end])
            if kind in (0, 3):
                return MAGIC_BYTES.join(parts), offset + end + -length % 4
            expected, offset = (2, 3), offset + end
            block = os.pread(self._handle, AT_ONCE, offset)

    def close(self) -> None:
        """Close the file; a later read opens it again."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _head(self, block: bytes, offset: int, place: int) -> tuple[int, int]:
        """Kind and length of the part whose bytes begin with ``block``."""
        if len(block) < HEAD.size:
            raise ConfigError(f'{self.where(place)}: the file ends at byte {self.size}. {self._advice()}')
        magic, word = HEAD.unpack_from(block)
        if magic != MAGIC:
            found = f'at byte {offset} is {magic:#010x}, not the magic number {MAGIC:#010x}'
            raise ConfigError(f'{self.where(place)}: no record begins there: {found}. {self._advice()}')
        self._check_end(offset, word & MOST, self.size, place)
        return word >> 29, word & MOST

    def _check_end(self, offset: int, length: int, end: int, place: int) -> None:
        if offset + HEAD.size + length > end:
            found = f'{length} bytes should follow byte {offset + HEAD.size}, but the file ends at byte {end}'
            raise ConfigError(f'{self.where(place)} is cut off: {found}. {self._advice()}')

    def _advice(self) -> str:
        return (
            f'The file is damaged or incomplete, or {self.idx_path!r} is the index of another one: copy both again, or remove the '
            'index to have it made anew.'
        )

    def _check_index(self) -> None:
        if not (self.keys[1:] > self.keys[:-1]).all():
            keys, counts = np.unique(self.keys, return_counts=True)
            if counts.max() > 1:
                raise ConfigError(f'{self.idx_path!r} names the key {keys[counts.argmax()]} {counts.max()} times')
        last = int(self.offsets.argmax())
        past = int((self.offsets > self.size - HEAD.size).sum())
        if past:
            raise ConfigError(
                f'{self.where(last)}: the file ends at byte {self.size}, so {past} of the {len(self)} records that '
                f'{self.idx_path!r} names are not in it. {self._advice()}'
            )
        end = self.end(last)
        self.close()
        first = int(self.offsets.argmin())
        if self.offsets[first] or end < self.size:
            before, after = int(self.offsets[first]), max(self.size - end, 0)
            raise ConfigError(
                f'{self.idx_path!r} names {len(self)} records, but {before + after} of the {self.size} bytes of {self.path!r} are '
                f'in none of them: {before} before the first ({self.where(first)}), {after} after the last ({self.where(last)}). '
                f'{self._advice()}'
            )
        if not (self.offsets[1:] > self.offsets[:-1]).all():
            offsets, counts = np.unique(self.offsets, return_counts=True)
            if counts.max() > 1:
                raise ConfigError(
                    f'{self.idx_path!r} has the offset {offsets[counts.argmax()]} {counts.max()} times, {len(offsets)} different '
                    f'ones for {len(self)} keys. {self._advice()}'
                )

    def _keep_index(self) -> None:
        message = f'{self.path!r} has no index: made one of {len(self)} records'
        try:
            write_idx(self.idx_path, self.keys, self.offsets)
            warnings.warn(f'{message}, {self.idx_path!r}', stacklevel=3)
        except OSError as error:
            warnings.warn(f'{message}, which cannot be kept for later runs ({error})', stacklevel=3)


class RecordWriter:
    """Write a ``.rec`` file and its ``.idx``, both beside their names until ``close`` renames them.

    As a context manager it closes at the end, and removes what it wrote after an exception.

    Args:
        path: The ``.rec`` file; its folder is made where it is missing. Files of that name are replaced.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self._files = ExitStack()
        # what is entered last is left first: at the end the records get their name, then the index
        self._index = self._files.enter_context(replacing(self.path.with_suffix('.idx')))
        self._file = self._files.enter_context(self._files.enter_context(replacing(self.path)).open('wb'))
        self._keys, self._offsets = array('q'), array('q')

    def write(self, key: int, payload: bytes) -> None:
        """Append a record; keys are whole numbers from 0, each used once.

        Raises:
            ConfigError: 2**29 bytes or more, which the format cannot say.
        """
        if len(payload) > MOST:
            raise ConfigError(
                f'{str(self.path)!r}: key {key}: a record holds at most {MOST} bytes, found {len(payload)}'
            )
        self._keys.append(key)
        self._offsets.append(self._file.tell())
        words = np.frombuffer(payload, '<u4', len(payload) // 4)
        cuts = [*(4 * np.flatnonzero(words == MAGIC)).tolist(), len(payload)]
        start = 0
        for number, end in enumerate(cuts):
            kind = 0 if len(cuts) == 1 else 1 if number == 0 else 3 if number == len(cuts) - 1 else 2
            length = end - start
            self._file.write(HEAD.pack(MAGIC, kind << 29 | length) + payload[start:end] + b'\0' * (-length % 4))
            start = end + len(MAGIC_BYTES)

    def close(self) -> None:
        """Finish both files and give them their names."""
        with self._files:
            write_idx(self._index, np.array(self._keys, np.int64), np.array(self._offsets, np.int64))

    def __enter__(self) -> 'RecordWriter':
        return self

    def __exit__(self, kind, error, traceback) -> None:
        if kind is None:
            self.close()
        else:
            self._files.__exit__(kind, error, traceback)


def pack(labels: float | tuple[float, ...], image: bytes = b'', key: int = 0) -> bytes:
    """The payload of an image: header, label or labels (a tuple), encoded image."""
    if isinstance(labels, tuple):
        return IMAGE_HEADER.pack(len(labels), 0, key, 0) + np.array(labels, '<f4').tobytes() + image
    return IMAGE_HEADER.pack(0, labels, key, 0) + image


def unpack(payload: bytes | memoryview) -> tuple[np.ndarray, bytes]:
    """Labels, float32 of shape (number of labels,), and the bytes of the image, empty in records that stand for no image.

    Raises:
        ConfigError: The payload is too short for its header and labels.
    """
    start = image_start(payload)
    count = (start - IMAGE_HEADER.size) // 4
    return np.frombuffer(payload, '<f4', count or 1, IMAGE_HEADER.size if count else 4), bytes(payload[start:])


def image_start(payload: bytes | memoryview) -> int:
    """Offset in a payload at which the image begins, after the header and its labels.

    Raises:
        ConfigError: The payload is too short for them.
    """
    flag = IMAGE_HEADER.unpack_from(payload)[0] if len(payload) >= IMAGE_HEADER.size else 0
    start = IMAGE_HEADER.size + 4 * flag
    if len(payload) < start:
        raise ConfigError(f'the header and {flag} labels take {start} bytes, but the record holds {len(payload)}')
    return start
