"""Lists of pairs of images in the forms of LFW, CALFW and CPLFW."""

from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from ....errors import ConfigError
from ..protocol import Faces, PairProtocol
from .files import clip, existing, is_whole
from .images import resolve_files
from .landmarks import read_landmarks

FOLDS = 10  # of lists that do not say


def read_lfw_pairs(
    pairs_txt: str | Path,
    image_root: str | Path,
    name: str = 'lfw',
    suffix: str = '.jpg',
    landmarks: str | Path | None = None,
    allow_outside: bool = False,
) -> PairProtocol:
    """Pairs of single images for 10-fold verification.

    Two forms are told apart by the first line. That of LFW (G. Huang et al., Labeled Faces in the Wild, 2007) begins with
    ``10<tab>300``, or ``300`` for one fold; then, for each fold, 300 lines ``name i j`` of the same person and 300 lines ``name1 i
    name2 j`` of two; the image is ``name/name_0001.jpg``. That of CALFW and CPLFW has two lines ``file label`` for each pair, label
    0 for two persons; where all genuine pairs come first they are dealt out, so that each of ten folds has its share of both kinds.

    Args:
        pairs_txt: The list.
        image_root: The folder that the images are below.
        name: What the numbers are called.
        suffix: The ending of LFW's images; another one is found too.
        landmarks: CSV file of five points for each image (see ``read_landmarks``), where the images are not aligned crops.
        allow_outside: Files may be absolute or have ``..`` in them.

    Returns:
        The pairs, in the order of the folds; keys of faces are ``name/name_0001.jpg`` or the file as listed.

    Raises:
        ConfigError: A line of another form, a number of lines that the first contradicts, or too few pairs for ten folds.
    """
    path = existing(pairs_txt)
    try:
        lines = path.read_text(encoding='utf-8-sig').splitlines()
    except UnicodeDecodeError as error:
        raise ConfigError(f'{path}: not a text file in UTF-8 ({error})') from error
    rows = [(number, _fields(line)) for number, line in enumerate(lines, 1) if line.strip()]
    if not rows:
        raise ConfigError(f'{path}: no line in it')
    form = _lfw if all(map(is_whole, rows[0][1])) else _labelled
    pairs, genuine, folds = form(path, rows, suffix)
    origins: dict[str, int] = {}  # of each file the row that names it first
    for pair in pairs:
        for file, number in pair:
            origins.setdefault(file, number)
    keys = list(origins)
    numbers = {file: place for place, file in enumerate(keys)}
    indices = [[numbers[file] for file, _ in pair] for pair in pairs]
    files = resolve_files(image_root, keys, lambda place: f'{path}, row {origins[keys[place]]}', allow_outside)
    points, scores = np.full((len(keys), 5, 2), np.nan), np.full(len(keys), np.nan)
    if landmarks is not None:
        points, scores = read_landmarks(landmarks, keys, keys, files, [''] * len(keys))
    boxes = np.full((len(keys), 4), np.nan, np.float32)
    faces = Faces(np.array(keys), files, boxes, points.astype(np.float32), scores.astype(np.float32))
    return PairProtocol(
        name, faces, np.array(indices, np.int32), np.array(genuine), np.array(folds, np.int32), str(image_root)
    )


def _fields(line: str) -> list[str]:
    """Between tabs where there are any: then names may have blanks."""
    return [field.strip() for field in line.strip().split('\t')] if '\t' in line.strip() else line.split()


def _lfw(path: Path, rows: list, suffix: str) -> tuple[list, ArrayLike, ArrayLike]:
    (line, head), *rows = rows
    if len(head) > 2 or 0 in map(int, head):
        raise ConfigError(
            f'{path}, row {line}: found {clip(" ".join(head))!r}; the first row is the folds and the pairs of each'
        )
    folds, each = (1, int(head[0])) if len(head) == 1 else map(int, head)
    if len(rows) != folds * 2 * each:
        raise ConfigError(
            f'{path}: {len(rows)} pairs, but row {line} says {folds} folds of {each} pairs of each kind: {folds * 2 * each}'
        )
    pairs, genuine = [], []
    for place, (number, fields) in enumerate(rows):
        same = place // each % 2 == 0
        if len(fields) != (3 if same else 4) or not all(is_whole(fields[i]) for i in ((1, 2) if same else (1, 3))):
            form = 'name i j (the same person)' if same else 'name1 i name2 j (two persons)'
            raise ConfigError(
                f'{path}, row {number}: found {clip(" ".join(fields))!r}; here, by the first row, belongs {form}'
            )
        first, second = (fields[0], fields[1]), (fields[0 if same else 2], fields[-1])
        pairs.append([(f'{person}/{person}_{int(image):04d}{suffix}', number) for person, image in (first, second)])
        genuine.append(same)
    return pairs, genuine, np.arange(len(pairs)) // (2 * each)


def _labelled(path: Path, rows: list, suffix: str) -> tuple[list, ArrayLike, ArrayLike]:
    for number, fields in rows:
        if len(fields) != 2 or not is_whole(fields[1]):
            raise ConfigError(
                f'{path}, row {number}: found {clip(" ".join(fields))!r}; either the first row is the numbers of folds and pairs '
                f'(it is {clip(" ".join(rows[0][1]))!r}), or each row is a file and a label, 0 for two persons'
            )
    if len(rows) % 2:
        raise ConfigError(f'{path}: {len(rows)} rows; each pair is two rows "file label"')
    kinds = np.array([int(fields[1]) > 0 for _, fields in rows]).reshape(-1, 2)
    if (kinds[:, 0] != kinds[:, 1]).any():
        place = int((kinds[:, 0] != kinds[:, 1]).argmax())
        raise ConfigError(f'{path}, rows {rows[2 * place][0]} and {rows[2 * place + 1][0]}: a pair with two labels')
    genuine = kinds[:, 0]
    files = [(fields[0], number) for number, fields in rows]
    pairs = list(zip(files[::2], files[1::2]))
    counts = genuine.sum(), (~genuine).sum()
    if min(counts) < FOLDS:
        raise ConfigError(f'{path}: {counts[0]} genuine and {counts[1]} other pairs; ten folds need ten of each')
    folds = np.empty(len(pairs), np.int32)
    for kind, count in ((genuine, counts[0]), (~genuine, counts[1])):
        folds[kind] = np.arange(count) * FOLDS // count
    order = np.argsort(folds, kind='stable')
    return [pairs[place] for place in order], genuine[order], folds[order]
