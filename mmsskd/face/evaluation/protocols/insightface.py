"""IJB-B and IJB-C in the text form that InsightFace's evaluation scripts read."""

from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np

from ....errors import ConfigError, candidates
from ..protocol import Faces, Identification, Split, TemplateProtocol, Templates, Verification
from .comparisons import lookup, unknown_template
from .csv_rows import Columns, read_number_rows
from .face_rows import select
from .files import clip, existing
from .images import resolve_files

GALLERIES = dict(IJBC=('G1', 'G2'), IJBB=('S1', 'S2'))
LINES = 1 << 16  # lines of the lists of faces that are parsed at once
UNKNOWN = -1  # subject of a template that no gallery or probe list names
PAIR = ('template', 'template', 'label')


def read_insightface(root: str | Path, name: str = 'IJBC', allow_outside: bool = False) -> TemplateProtocol:
    """IJB-C or IJB-B as InsightFace hands them out: loose crops, landmarks, and lists of numbers.

    ``root`` holds ``loose_crop/1.jpg`` and so on, and ``meta/`` with, for IJB-C, ``ijbc_face_tid_mid.txt`` ("1.jpg template
    medium"), ``ijbc_name_5pts_score.txt`` ("1.jpg x1 y1 ... x5 y5 score"), ``ijbc_template_pair_label.txt`` ("template template
    label", 15.66 million lines) and, optional, ``ijbc_1N_gallery_G1.csv``, ``ijbc_1N_gallery_G2.csv`` and
    ``ijbc_1N_probe_mixed.csv`` with TEMPLATE_ID and SUBJECT_ID (of IJB-B: ``ijbb_...``, S1 and S2). The first two lists belong
    together line by line, which is checked.

    Args:
        root: The folder, or the one above it that has ``name`` in it.
        name: ``'IJBC'`` or ``'IJBB'``.
        allow_outside: Names of crops may be absolute or have ``..`` in them.

    Returns:
        The protocol, of one split; keys of faces are the names of the crops. Subjects are known from the 1:N lists; -1 without.

    Raises:
        ConfigError: A file is missing, a line is of another form, names or numbers of lines differ, a pair names an unknown
            template, or a label contradicts the subjects.
    """
    if name not in GALLERIES:
        raise ConfigError(f'insightface: name must be IJBC or IJBB, found {name!r}; {candidates(str(name), GALLERIES)}')
    root = Path(root)
    if not (root / 'meta').is_dir() and (root / name / 'meta').is_dir():
        root = root / name
    prefix = root / 'meta' / name.lower()
    faces_path = Path(f'{prefix}_face_tid_mid.txt')
    names, template_ids, media, lines = _read_faces(faces_path)
    points, scores = _read_points(Path(f'{prefix}_name_5pts_score.txt'), names, lines, faces_path)
    ids, rows = np.unique(template_ids, return_inverse=True)
    templates = Templates(ids, np.full(len(ids), UNKNOWN), rows.reshape(-1), np.arange(len(names)), media)
    kinds = [*(f'gallery_{gallery}' for gallery in GALLERIES[name]), 'probe_mixed']
    paths = [Path(f'{prefix}_1N_{kind}.csv') for kind in kinds]
    identification: tuple[Identification, ...] = ()
    if any(path.exists() for path in paths):
        places = [_read_search(path, templates) for path in paths]  # fills in the subjects
        *galleries, probes = (select(templates, place) for place in places)
        identification = tuple(Identification(which, one, probes) for which, one in zip(GALLERIES[name], galleries))
    verification = _read_pairs(Path(f'{prefix}_template_pair_label.txt'), templates)
    crops = str(root / 'loose_crop')
    boxes = np.full((len(names), 4), np.nan, np.float32)
    files = resolve_files(crops, names.tolist(), lambda place: f'{faces_path}, row {lines[place]}', allow_outside)
    faces = Faces(names, files, boxes, points, scores)
    return TemplateProtocol(name, faces, (Split('', verification, identification),), crops)


def _read_faces(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Names of the crops, their templates, their media, and the rows of the file, (F,) each."""
    what = 'name of the crop, template, medium'
    names: list[str] = []
    numbers, lines = [], []
    for some_lines, rows in _blocks(path, 3, what):
        some, *rest = zip(*rows)
        names.extend(some)
        numbers.append(_parse(path, some_lines, rows, rest, np.int64, what))
        lines.append(some_lines)
    if not names:
        raise ConfigError(f'{path}: no line in it')
    if len(set(names)) < len(names):
        twice = next(name for name, count in Counter(names).items() if count > 1)
        place = names.index(twice, names.index(twice) + 1)
        raise ConfigError(
            f'{path}, row {np.concatenate(lines)[place]}: {clip(names[place])!r} is there a second time; a crop is in one template'
        )
    return np.array(names), *np.concatenate(numbers, axis=1), np.concatenate(lines)


def _read_points(path: Path, names: np.ndarray, lines: np.ndarray, faces_path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Landmarks (F, 5, 2) and scores (F,), float32, of the crops ``names``, which the file must list in the same order."""
    what = 'name of the crop, x1, y1, ..., x5, y5, score'
    values, count = [np.empty((11, 0), np.float32)], 0
    for some_lines, rows in _blocks(path, 12, what):
        some, *rest = zip(*rows)
        expected = names[count : count + len(some)]
        wrong = np.array(some)[: len(expected)] != expected
        if wrong.any():
            place = int(wrong.argmax())
            raise ConfigError(
                f'{path}, row {some_lines[place]}: found {clip(some[place])!r}, but {faces_path}, row {lines[count + place]}, has '
                f'{clip(str(expected[place]))!r}; the two lists must name the same crops in the same order'
            )
        values.append(_parse(path, some_lines, rows, rest, np.float32, what))
        count += len(some)
    if count != len(names):
        raise ConfigError(
            f'{path} has {count} crops, {faces_path} {len(names)}; the two lists must name the same crops'
        )
    all_values = np.concatenate(values, axis=1)
    return np.ascontiguousarray(all_values[:10].T).reshape(-1, 5, 2), all_values[10].copy()


def _read_search(path: Path, templates: Templates) -> np.ndarray:
    """The ascending places of the templates that a gallery or probe list names; their subjects are written to ``templates``."""
    table = Columns(path, ['TEMPLATE_ID', 'SUBJECT_ID'])
    ids, subjects = table.whole('TEMPLATE_ID'), table.whole('SUBJECT_ID')
    places = lookup(templates.ids)(ids)
    if places.min() < 0:
        row = int(places.argmin())
        raise unknown_template(path, table.lines[row], ids[row], templates)
    before = templates.subjects[places]
    first = slice(None, None, -1)  # of several rows of a template the first is written last, and stays
    templates.subjects[places[first]] = np.where(before == UNKNOWN, subjects, before)[first]
    wrong = templates.subjects[places] != subjects
    if wrong.any():
        row = int(wrong.argmax())
        raise table.error(
            row, 'SUBJECT_ID', f'template {ids[row]} is of subject {templates.subjects[places[row]]} elsewhere'
        )
    return np.unique(places)


def _read_pairs(path: Path, templates: Templates) -> Verification:
    find, pairs, labels = lookup(templates.ids), [], []
    for lines, rows in read_number_rows(path, PAIR, 'label is 1 for the same person, else 0'):
        places, label = find(rows[:, :2]), rows[:, 2]
        if places.size and places.min() < 0:
            row, side = np.argwhere(places < 0)[0]
            raise unknown_template(path, lines[row], rows[row, side], templates)
        known = templates.subjects[places]
        wrong = (label > 1) | ((known[:, 0] == known[:, 1]) != (label == 1)) & (known != UNKNOWN).all(1)
        if wrong.any():
            row = int(wrong.argmax())
            reason = 'it must be 0 or 1' if label[row] > 1 else (
                f'the 1:N lists give the subjects {known[row, 0]} and {known[row, 1]}'
            )  # fmt: skip
            raise ConfigError(f'{path}, row {lines[row]}, column label: found {label[row]}; {reason}')
        pairs.append(places)
        labels.append(label == 1)
    if not sum(map(len, pairs)):
        raise ConfigError(f'{path}: no pairs in it')
    return Verification(templates, np.concatenate(pairs), np.concatenate(labels))


def _blocks(path: Path, columns: int, what: str) -> Iterator[tuple[np.ndarray, list[list[str]]]]:
    """Yield the numbers and fields of some lines at once; blank lines are left out."""
    number = 1
    try:
        with existing(path).open(encoding='utf-8-sig') as file:
            while rows := [line.split() for line in islice(file, LINES)]:
                lines: np.ndarray = np.arange(number, number + len(rows))
                number += len(rows)
                if set(map(len, rows)) != {columns}:
                    lines, rows = lines[[bool(row) for row in rows]], [row for row in rows if row]
                    for line, row in zip(lines, rows):
                        if len(row) != columns:
                            raise _bad_row(path, int(line), row, what)
                if rows:
                    yield lines, rows
    except UnicodeDecodeError as error:
        raise ConfigError(f'{path}: not a text file ({error})') from error


def _parse(path: Path, lines: np.ndarray, rows: list, columns: list, dtype: type, what: str) -> np.ndarray:
    """Finite numbers, (columns, rows)."""
    try:
        return _numbers(columns, dtype)
    except ValueError:
        for line, row in zip(lines, rows):
            try:
                _numbers(row[1:], dtype)
            except ValueError:
                raise _bad_row(path, line, row, what) from None
        raise


def _numbers(texts: list, dtype: type) -> np.ndarray:
    """ValueError where one is no number of ``dtype``, or not finite."""
    whole = ''.join(map(''.join, texts))
    if not whole.isascii() or '_' in whole:  # numpy takes 1_000, and digits of other scripts
        raise ValueError('no plain numbers')
    try:
        with np.errstate(over='ignore'):
            values: np.ndarray = np.array(texts, dtype)
    except OverflowError as error:
        raise ValueError(*error.args) from error
    if not np.isfinite(values).all():
        raise ValueError('not finite')
    return values


def _bad_row(path: Path, line: int, row: list[str], what: str) -> ConfigError:
    return ConfigError(
        f'{path}, row {line}: found {clip(" ".join(row))!r}; a row is {what}, separated by blanks; numbers must be finite'
    )
