"""Make faces and templates of the rows of a protocol's CSV files; shared by the readers of template protocols."""

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from ....errors import ConfigError
from ..protocol import Faces, Templates
from .csv_rows import TOLERANCE, Columns, agree, digits
from .files import clip, is_whole
from .images import resolve_files
from .landmarks import POINTS, read_landmarks

BOX = ('FACE_X', 'FACE_Y', 'FACE_WIDTH', 'FACE_HEIGHT')
NUMBERS = (*BOX, *POINTS, 'SCORE')  # that rows repeat for one face


class _Codes(dict):
    """Numbers from 0 for values, in the order in which they are asked for."""

    def __missing__(self, value):
        self[value] = number = len(self)
        return number

    def of(self, values: Iterable) -> np.ndarray:
        return np.fromiter(map(self.__getitem__, values), np.int64)


class FaceRows:
    """Collects the distinct faces of CSV files whose rows each put one face into one template.

    A face is an image file and a SIGHTING_ID; where rows have none, an image file and a box. All rows of a face must agree about
    its box, landmarks and score, up to 1e-3, and about its person, those of a template about the person. Of numbers that agree the
    lowest is kept, so that a face has one value whatever the order of files.

    Args:
        file: Name of the column with the image file.
        required: Columns that must be there beside it, TEMPLATE_ID and SUBJECT_ID.
        numeric: Whether TEMPLATE_ID and SUBJECT_ID are whole numbers; else they are text.
    """

    def __init__(self, file: str, required: Sequence[str] = (), numeric: bool = True):
        self._file, self._required, self._numeric = file, required, numeric
        self._number = _Codes()  # of each face by its file and what tells faces of one file apart
        self._media, self._subjects = _Codes(), _Codes()
        self._boxes: dict[str, list[tuple]] = {}  # of each file, where they tell its faces apart
        self._written: dict[tuple, tuple] = {}  # by file and box as it is written: that of `_boxes`
        self._face_subjects = np.empty(0, np.int64)
        self._first = self._lowest = np.empty((0, len(NUMBERS)))
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
        index = _Codes()
        rows = index.of(names)
        first = _first(rows, len(index))
        wrong = people[first][rows] != people
        if wrong.any():
            row = int(wrong.argmax())
            known = list(self._subjects)
            raise ConfigError(
                f'{parts[tables[row]][5]}, row {lines[row]}, column SUBJECT_ID: template {clip(str(names[row]))} is of subject '
                f'{clip(str(known[people[row]]))} here and of {clip(str(known[people[first[rows[row]]]]))} in row '
                f'{lines[first[rows[row]]]}; a template holds faces of one person'
            )
        subjects = np.array(list(self._subjects))[people[first]]
        return Templates(np.array(list(index)), subjects, rows, faces, media)

    def faces(self, root: str, landmarks: str | Path | None = None, allow_outside: bool = False) -> Faces:
        """All faces of the files read so far, in the order of their first appearance; ``files`` as they are below ``root``."""
        names = [key[0] for key in self._number]
        tags = [key[1] for key in self._number]
        counts: dict[str, int] = {}
        for name in names:
            counts[name] = counts.get(name, 0) + 1
        keys = [name if counts[name] == 1 else f'{name}#{_tag_text(tag)}' for name, tag in zip(names, tags)]
        if len(set(keys)) < len(keys):
            twice = next(key for key, count in Counter(keys).items() if count > 1)
            raise ConfigError(
                f'two faces would be named {clip(twice)!r}; give the faces of one file short SIGHTING_IDs'
            )
        files = resolve_files(root, names, lambda face: '{}, row {}'.format(*self._origins[face]), allow_outside)
        boxes, points, scores = self._lowest[:, :4], self._lowest[:, 4:14].reshape(-1, 5, 2), self._lowest[:, 14]
        if landmarks is not None:
            points, scores = read_landmarks(landmarks, keys, names, files, [_tag_text(tag) for tag in tags])
        return Faces(np.array(keys), files, *(values.astype(np.float32) for values in (boxes, points, scores)))

    def _read(self, path: Path) -> tuple:
        required = ('TEMPLATE_ID', 'SUBJECT_ID', self._file, *self._required)
        optional = ('MEDIA_ID', 'SIGHTING_ID', *BOX, *POINTS, 'SCORE')
        table = Columns(path, required, tuple(name for name in optional if name not in required))
        ids = table.whole if self._numeric else table.text
        names, subjects = (list(np.asarray(ids(name)).tolist()) for name in ('TEMPLATE_ID', 'SUBJECT_ID'))
        files = table.text(self._file)
        boxes = _group(table, BOX)
        tags = self._tags(table, files, boxes, 'SIGHTING_ID' in required)
        named = table.text('MEDIA_ID') if 'MEDIA_ID' in table else map(_medium, files)
        people, media = self._subjects.of(subjects), self._media.of(medium.removesuffix('.0') for medium in named)
        scores = table.numbers('SCORE') if 'SCORE' in table else np.full(len(table), np.nan)
        faces = self._number.of(zip(files, tags))
        self._add(table, faces, people, np.column_stack([boxes, _group(table, POINTS), scores]))
        return names, table.lines, people, faces, media, table.path

    def _tags(self, table: Columns, files: Sequence[str], boxes: np.ndarray, filled: bool) -> list:
        """Keys that tell the faces of one file apart: the SIGHTING_ID, as text, or, unless it must be ``filled``, the box."""
        tags = [''] * len(table)
        if 'SIGHTING_ID' in table:
            tags = table.text('SIGHTING_ID') if filled else table.optional_text('SIGHTING_ID')
        if '' not in tags:
            return [tag.removesuffix('.0') for tag in tags]
        return [
            tag.removesuffix('.0') or self._box(file, box)
            for tag, file, box in zip(tags, files, map(tuple, boxes.tolist()))
        ]

    def _box(self, file: str, box: tuple) -> tuple | None:
        """The box as it was first written: other digits do not make another face."""
        if box[0] != box[0]:  # NaN: there is none
            return None
        if (same := self._written.get((file, box))) is None:
            known = self._boxes.setdefault(file, [])
            alike = (one for one in known if all(abs(a - b) <= TOLERANCE for a, b in zip(one, box)))
            same = next(alike, None)
            if same is None:
                known.append(same := box)
            self._written[file, box] = same
        return same

    def _add(self, table: Columns, faces: np.ndarray, people: np.ndarray, numbers: np.ndarray) -> None:
        """Keep what is new, and compare the rest with what is known; ``numbers``: (R, 15), those of ``NUMBERS``."""
        new, first = np.unique(faces, return_index=True)
        first = first[new >= len(self._first)]
        self._origins.extend((table.path, line) for line in table.lines[first].tolist())
        self._face_subjects = np.concatenate([self._face_subjects, people[first]])
        self._first = np.concatenate([self._first, numbers[first]])
        self._lowest = np.concatenate([self._lowest, numbers[first]])
        before = self._first[faces]
        other = ~((numbers == before) | (np.isnan(numbers) & np.isnan(before)))
        rows, columns = other.nonzero()
        same = agree(numbers[rows, columns], before[rows, columns])
        if not same.all():
            row = int(rows[~same].min())
            wrong = columns[~same & (rows == row)]
            texts = digits(numbers[row, wrong]), digits(before[row, wrong])
            self._conflict(table, row, faces[row], np.array(NUMBERS)[wrong], *texts)
        np.minimum.at(self._lowest, (faces[rows], columns), numbers[rows, columns])
        strangers = people != self._face_subjects[faces]
        if strangers.any():
            row, known = int(strangers.argmax()), list(self._subjects)
            found, before = (clip(str(known[one])) for one in (people[row], self._face_subjects[faces[row]]))
            self._conflict(table, row, faces[row], ['SUBJECT_ID'], found, before)

    def _conflict(self, table: Columns, row: int, face: int, columns: Sequence[str], found: str, before: str) -> None:
        key, tag = list(self._number)[face]
        path, line = self._origins[face]
        raise ConfigError(
            f'{table.path}, row {table.lines[row]}, column{"s" * (len(columns) > 1)} {", ".join(columns)}: face {clip(key)!r}, '
            f'sighting {clip(_tag_text(tag))}, has {found} here and {before} in {path}, row {line}; one face has one. Correct one '
            'of them, or give two faces of one file different SIGHTING_IDs'
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


def _first(codes: np.ndarray, count: int) -> np.ndarray:
    """Find for each of ``count`` codes the first place where it is."""
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


def _tag_text(tag) -> str:
    return tag if isinstance(tag, str) else ','.join(f'{value:g}' for value in tag or ())


def _medium(file: str) -> str:
    """Without a MEDIA_ID: the file, or its name up to the last '_', the video of a frame such as frames/29924_00012.png."""
    stem = file.rpartition('.')[0] or file
    video, _, frame = stem.rpartition('_')
    return video if video and is_whole(frame) else file
