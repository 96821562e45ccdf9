"""From rows of a protocol's CSV files to its faces and templates; shared by the readers of template protocols."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from ....errors import ConfigError
from ..protocol import Faces, Templates
from .csv_rows import Columns
from .images import resolve_files
from .landmarks import POINTS, read_landmarks

BOX = ('FACE_X', 'FACE_Y', 'FACE_WIDTH', 'FACE_HEIGHT')


class FaceRows:
    """Collects the distinct faces of CSV files whose rows each put one face into one template.

    A face is an image file and a SIGHTING_ID; where rows have none, an image file and a box. All rows of a face
    must agree about its box and its person, those of a template about the person.

    Args:
        file: Name of the column with the image file.
        required: Columns that must be there beside it, TEMPLATE_ID and SUBJECT_ID.
        numeric: Whether TEMPLATE_ID and SUBJECT_ID are whole numbers; else they are text.
    """

    def __init__(self, file: str, required: Sequence[str] = (), numeric: bool = True):
        self._file, self._required, self._numeric = file, required, numeric
        self._number: dict[tuple, int] = {}  # of each face by its file and what tells faces of one file apart
        self._media: dict[str, int] = {}
        self._subjects: dict[object, int] = {}
        self._face_subjects = np.empty(0, np.int64)
        self._boxes = np.empty((0, 4))
        self._points = np.empty((0, 10))
        self._scores = np.empty(0)
        self._origins: list[tuple[Path, int]] = []  # for each face the file and the row that it was first seen in

    def read(self, paths: Iterable[str | Path]) -> Templates:
        """The templates of one or several CSV files, in the order in which they appear.

        Raises:
            ConfigError: What ``Columns`` raises; two boxes, landmarks or persons of one face; two persons of one template.
        """
        parts = [self._read(Path(path)) for path in paths]
        names = [name for part in parts for name in part[0]]
        lines = np.concatenate([part[1] for part in parts])
        tables = np.repeat(np.arange(len(parts)), [len(part[1]) for part in parts])
        people, faces, media = (np.concatenate([part[place] for part in parts]) for place in (2, 3, 4))
        index: dict[object, int] = {}
        rows = _codes(names, index)
        first = _first(rows, len(index))
        wrong = people[first][rows] != people
        if wrong.any():
            row = int(wrong.argmax())
            known = list(self._subjects)
            raise ConfigError(
                f'{parts[tables[row]][5]}, row {lines[row]}, column SUBJECT_ID: template {names[row]} is of subject '
                f'{known[people[row]]} here and of {known[people[first[rows[row]]]]} in row {lines[first[rows[row]]]}; a template '
                'holds faces of one person'
            )
        subjects = np.array(list(self._subjects))[people[first]]
        return Templates(np.array(list(index)), subjects, rows, faces, media)

    def faces(self, root: str, landmarks: str | Path | None = None) -> Faces:
        """All faces of the files read so far, in the order of their first appearance; ``files`` as they are below ``root``."""
        names = [key[0] for key in self._number]
        tags = [key[1] for key in self._number]
        counts: dict[str, int] = {}
        for name in names:
            counts[name] = counts.get(name, 0) + 1
        keys = [name if counts[name] == 1 else f'{name}#{_tag_text(tag)}' for name, tag in zip(names, tags)]
        if len(set(keys)) < len(keys):
            twice = next(key for place, key in enumerate(keys) if key in keys[:place])
            raise ConfigError(f'two faces would be named {twice!r}; give the faces of one file short SIGHTING_IDs')
        files = resolve_files(root, names)
        points, scores = self._points.reshape(-1, 5, 2), self._scores
        if landmarks is not None:
            points, scores = read_landmarks(landmarks, keys, names, files, [_tag_text(tag) for tag in tags])
        float32 = (np.float32(values) for values in (self._boxes, points, scores))
        return Faces(np.array(keys), files, *float32)

    def _read(self, path: Path) -> tuple:
        required = ('TEMPLATE_ID', 'SUBJECT_ID', self._file, *self._required)
        optional = ('MEDIA_ID', 'SIGHTING_ID', *BOX, *POINTS, 'SCORE')
        table = Columns(path, required, tuple(name for name in optional if name not in required))
        ids = table.whole if self._numeric else table.text
        names, people = (list(np.asarray(ids(name)).tolist()) for name in ('TEMPLATE_ID', 'SUBJECT_ID'))
        files = table.text(self._file)
        boxes = _group(table, BOX)
        tags = _tags(table, boxes, 'SIGHTING_ID' in required)
        media = table.text('MEDIA_ID') if 'MEDIA_ID' in table else [_medium(file) for file in files]
        people, media = _codes(people, self._subjects), _codes(media, self._media)
        points = _group(table, POINTS)
        scores = table.numbers('SCORE') if 'SCORE' in table else np.full(len(table), np.nan)
        faces = _codes(zip(files, tags), self._number)
        self._add(table, faces, people, boxes, points, scores)
        return names, table.lines, people, faces, media, table.path

    def _add(self, table: Columns, faces, people, boxes, points, scores) -> None:
        """Keep what is new, and compare the rest with what is known."""
        known = len(self._boxes)
        numbers, first = np.unique(faces, return_index=True)
        first = first[numbers >= known]
        self._origins.extend((table.path, line) for line in table.lines[first].tolist())
        self._face_subjects = np.concatenate([self._face_subjects, people[first]])
        self._boxes = np.concatenate([self._boxes, boxes[first]])
        self._points = np.concatenate([self._points, points[first]])
        self._scores = np.concatenate([self._scores, scores[first]])
        for columns, here, there in (
            (BOX, boxes, self._boxes[faces]),
            (POINTS, points, self._points[faces]),
            (('SUBJECT_ID',), people[:, None], self._face_subjects[faces][:, None]),
        ):
            wrong = ~((here == there) | (np.isnan(here) & np.isnan(there))).all(1)
            if wrong.any():
                row = int(wrong.argmax())
                self._conflict(table, row, faces[row], columns, here[row], there[row])

    def _conflict(self, table: Columns, row: int, face: int, columns: Sequence[str], here, there) -> None:
        if columns == ('SUBJECT_ID',):
            known = list(self._subjects)
            here, there = [known[here[0]]], [known[there[0]]]
        key, tag = list(self._number)[face]
        path, line = self._origins[face]
        found, before = (', '.join(f'{value:g}' if isinstance(value, float) else str(value) for value in values)
                         for values in (here, there))  # fmt: skip
        raise ConfigError(
            f'{table.path}, row {table.lines[row]}, columns {columns[0]} to {columns[-1]}: face {key!r}, sighting '
            f'{_tag_text(tag)}, has {found} here and {before} in {path}, row {line}; one face has one. Correct one of them, or '
            'give two faces of one file different SIGHTING_IDs'
        )


def select(templates: Templates, wanted: np.ndarray) -> Templates:
    """The templates at the ascending indices ``wanted``, and their rows."""
    new = np.full(len(templates), -1)
    new[wanted] = np.arange(len(wanted))
    rows = new[templates.rows_template]
    keep = rows >= 0
    return Templates(
        templates.ids[wanted],
        templates.subjects[wanted],
        rows[keep],
        templates.rows_face[keep],
        templates.rows_media[keep],
    )


def _codes(values: Iterable, numbers: dict) -> np.ndarray:
    """The number of each value in ``numbers``, which gets those that it has not."""
    return np.array([numbers.setdefault(value, len(numbers)) for value in values], np.int64)


def _first(codes: np.ndarray, count: int) -> np.ndarray:
    """For each of ``count`` codes the first place where it is."""
    first = np.empty(count, np.int64)
    first[codes[::-1]] = np.arange(len(codes))[::-1]
    return first


def _group(table: Columns, names: Sequence[str]) -> np.ndarray:
    there = [name in table for name in names]
    if any(there) and not all(there):
        missing = names[there.index(False)]
        raise ConfigError(
            f'{table.path}, row 1: no column {missing}; {", ".join(names)} are all there or none of them is'
        )
    return table.group(names) if any(there) else np.full((len(table), len(names)), np.nan)


def _tags(table: Columns, boxes: np.ndarray, filled: bool) -> list:
    """What tells the faces of one file apart: the SIGHTING_ID, as text, or, unless it must be ``filled``, the box."""
    tags = [''] * len(table)
    if 'SIGHTING_ID' in table:
        tags = table.text('SIGHTING_ID') if filled else table.optional_text('SIGHTING_ID')
        if '' not in tags:
            return [tag.removesuffix('.0') for tag in tags]
    boxes = [None if box[0] != box[0] else tuple(box) for box in boxes.tolist()]
    return [tag.removesuffix('.0') or box for tag, box in zip(tags, boxes)]


def _tag_text(tag) -> str:
    return tag if isinstance(tag, str) else ','.join(f'{value:g}' for value in tag or ())


def _medium(file: str) -> str:
    """Without a MEDIA_ID: the file, or its name up to the last '_', the video of a frame such as frames/29924_00012.png."""
    stem = file.rpartition('.')[0] or file
    video, _, frame = stem.rpartition('_')
    return video if video and frame.isdigit() else file
