"""Landmarks of faces in a CSV file."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ....errors import ConfigError
from .csv_rows import Columns
from .files import clip

POINTS = tuple(f'{axis}{point}'.upper() for point in range(1, 6) for axis in 'xy')


def read_landmarks(
    path: str | Path,
    keys: Sequence[str],
    names: Sequence[str],
    files: Sequence[str] | np.ndarray,
    sightings: Sequence[str],
) -> tuple[np.ndarray, np.ndarray]:
    """Five points for each of F faces, from a CSV file with the columns ``KEY,x1,y1,...,x5,y5`` and, optional, ``score``.

    Points are in pixels of the image, in the order of ``Faces.landmarks``; ten empty fields: the detector found nothing. Instead
    of ``KEY`` (what ``tools/face/list_faces.py`` writes) there may be ``FILE`` and ``SIGHTING_ID``; the latter may be absent or
    empty where a file has one face. Rows of faces that are not in the protocol are ignored.

    Args:
        path: The file.
        keys: (F,) the faces' keys.
        names: (F,) the files as the protocol names them.
        files: (F,) the files as they are on disk.
        sightings: (F,) the SIGHTING_IDs, '' where there are none.

    Returns:
        (F, 5, 2) and (F,) of float64; NaN where the file says nothing.

    Raises:
        ConfigError: What ``Columns`` raises; a face is there twice, a FILE with several faces has no SIGHTING_ID, or no row is of
            a face of the protocol.
    """
    table = Columns(path, POINTS, ('KEY', 'FILE', 'SIGHTING_ID', 'SCORE'))
    if 'KEY' in table:
        index = {(key, ''): face for face, key in enumerate(keys)}
        column, wanted = 'KEY', [(key, '') for key in table.text('KEY')]
    elif 'FILE' in table:
        index = {}
        for face, (name, file, sighting) in enumerate(zip(names, files, sightings)):
            for known in {str(name), str(file)}:
                index[known, sighting] = face
                # without a sighting the file must have one face; -1: it has several
                index[known, ''] = face if index.get((known, ''), face) == face else -1
        tags = table.optional_text('SIGHTING_ID') if 'SIGHTING_ID' in table else [''] * len(table)
        column, wanted = 'FILE', list(zip(table.text('FILE'), (tag.removesuffix('.0') for tag in tags)))
    else:
        raise ConfigError(f'{path}, row 1: no column KEY and none FILE; one of them must say whose the landmarks are')
    faces = np.array([index.get(want, -2) for want in wanted])
    if (faces == -1).any():
        row = int((faces == -1).argmax())
        raise table.error(row, column, 'this file has several faces in the protocol; fill the column SIGHTING_ID')
    used = np.flatnonzero(faces >= 0)
    if not len(used):
        raise table.error(
            0, column, f'none of the {len(table)} rows is of a face of the protocol, whose first is {clip(keys[0])!r}'
        )
    order = used[np.argsort(faces[used], kind='stable')]
    twice = np.flatnonzero(np.diff(faces[order]) == 0)
    if len(twice):
        before, row = order[twice[0]], order[twice[0] + 1]
        raise table.error(row, column, f'row {table.lines[before]} is of the same face; keep one')
    points, scores = np.full((len(keys), 10), np.nan), np.full(len(keys), np.nan)
    points[faces[used]] = table.group(POINTS)[used]
    if 'SCORE' in table:
        scores[faces[used]] = table.numbers('SCORE')[used]
    return points.reshape(-1, 5, 2), scores
