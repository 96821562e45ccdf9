"""The label of every image in a RecordIO file, found by one look at each record's header, and kept beside the file."""

import os
import zlib
from pathlib import Path

import numpy as np

from ...errors import ConfigError
from ...utils.files import replacing
from .record_index import HEAD, IMAGE_HEADER, MAGIC, MOST
from .recordio import RecordReader, unpack

VERSION = 2  # of the cache; raise it with its content
NO_IMAGE = -1
EXACT = 1 << 24  # labels are float32: from here on not every whole number is one
BLOCK = 1 << 16  # records looked at at once
WORDS = (
    HEAD.size // 4 + IMAGE_HEADER.size // 4 + 1
)  # magic, word, flag, label, id (2), id2 (2), first of the labels that follow


def load_labels(reader: RecordReader) -> tuple[np.ndarray, str]:
    """Labels by the cache ``<rec>.labels.npy``, which is made where it is missing or of another file.

    The cache is int32: 8 numbers that tell version, size and time of change of the ``.rec`` and a checksum of the offsets, then the
    labels.

    Returns:
        (N,) of int32: the label of each record, its first one where it has several; ``NO_IMAGE`` for records without an image,
        which are the header and the identities of InsightFace's files. And why the cache could not be written, else ``''``.

    Raises:
        ConfigError: A record is damaged, or its label is no whole number from 0 to 2**24 - 1, or the index leaves out records.
    """
    path = Path(f'{reader.path}.labels.npy')
    state = os.stat(reader.path)
    key = np.array([VERSION, state.st_size, state.st_mtime_ns, zlib.crc32(reader.offsets.data)], '<i8').view('<i4')
    try:
        content = np.load(path, allow_pickle=False)
        if (
            content.dtype == np.int32
            and content.shape == (len(key) + len(reader),)
            and (content[: len(key)] == key).all()
        ):
            return content[len(key) :], ''
    except (OSError, ValueError, EOFError):
        pass  # missing or damaged: made anew
    labels = _whole(reader, *scan_labels(reader))
    try:
        with replacing(path) as part, part.open('wb') as file:
            np.save(file, np.concatenate([key, labels]))
    except OSError as error:
        return labels, str(error)
    return labels, ''


def scan_labels(reader: RecordReader) -> tuple[np.ndarray, np.ndarray]:
    """The first label of each record, (N,) of float32, and whether an image follows, (N,) of bool.

    Each record's header is read, so it is also here that the index is compared with the file to its last byte. A check of the
    offsets alone would not do: records differ in length, so where lines are missing the gap looks like a long record.

    Raises:
        ConfigError: A record is damaged, or one does not begin where the one before it in the file ends.
    """
    words = np.memmap(reader.path, '<u4', 'r', shape=(reader.size // 4,))
    labels, has_image = np.empty(len(reader), np.float32), np.empty(len(reader), bool)
    ends = np.empty(len(reader), np.int64)
    for start in range(0, len(reader), BLOCK):
        offsets = reader.offsets[start : start + BLOCK]
        places = (offsets // 4)[:, None] + np.arange(WORDS)
        head = words[np.minimum(places, len(words) - 1)]
        kind, length = head[:, 1] >> 29, (head[:, 1] & MOST).astype(np.int64)
        flag = head[:, 2].astype(np.int64)
        image_bytes = length - IMAGE_HEADER.size - 4 * flag
        block = slice(start, start + len(offsets))
        labels[block] = np.where(flag > 0, head[:, 8], head[:, 3]).view(np.float32)
        has_image[block] = image_bytes > 0
        ends[block] = offsets + HEAD.size + length + -length % 4
        whole = (head[:, 0] == MAGIC) & (kind == 0) & (offsets % 4 == 0) & (offsets + HEAD.size + length <= reader.size)
        for place in (
            np.flatnonzero(~whole | (image_bytes < 0)) + start
        ):  # of several parts, or damaged, which reading it says
            has_image[place] = len(reader.read_image(place)) > 0
            labels[place] = unpack(reader.read(place))[0][0]
            ends[place] = reader.end(place)
    _check_cover(reader, ends)
    return labels, has_image


def _check_cover(reader: RecordReader, ends: np.ndarray) -> None:
    """Check that each record begins where another ends.

    The reader has seen that the first begins at 0 and the last ends the file.
    """
    order = np.argsort(reader.offsets, kind='stable')  # fast where they ascend, as they usually do
    gaps = reader.offsets[order[1:]] - ends[order[:-1]]
    wrong = np.flatnonzero(gaps)
    if not len(wrong):
        return
    before, after = order[wrong[0]], order[wrong[0] + 1]
    missing, where = int(gaps[gaps > 0].sum()), f'{reader.where(before)} ends at byte {ends[before]}'
    found = (
        f'{missing} bytes in {(gaps > 0).sum()} places are in no record that it names: {where}, but the next that it names begins '
        f'at byte {reader.offsets[after]}'
        if missing
        else f'{where}, inside which the next begins, at byte {reader.offsets[after]}'
    )
    raise ConfigError(
        f'{reader.idx_path!r} does not account for all of {reader.path!r}: {found}. Copy both again, or remove the index to have '
        'it made anew.'
    )


def _whole(reader: RecordReader, labels: np.ndarray, has_image: np.ndarray) -> np.ndarray:
    """Labels as int32, ``NO_IMAGE`` where there is none."""
    with np.errstate(invalid='ignore'):
        wrong = has_image & ~((labels >= 0) & (labels < EXACT) & (labels == np.floor(labels)))
    if wrong.any():
        place = int(wrong.argmax())
        raise ConfigError(
            f'{reader.where(place)}: labels must be whole numbers from 0 to {EXACT - 1}, found {labels[place]} ({wrong.sum()} of '
            f'{has_image.sum()} images have such labels); write the file anew with people numbered from 0'
        )
    return np.where(has_image, labels, NO_IMAGE).astype(np.int32)
