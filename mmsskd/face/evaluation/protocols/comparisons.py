"""Lists of pairs of templates."""

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np

from ....errors import ConfigError
from ..protocol import Templates, Verification
from .csv_rows import read_number_rows
from .face_rows import select
from .files import clip, existing, near_names

HEADER = 'A list of comparisons has no header: remove it'
TABLE = 1 << 24  # highest TEMPLATE_ID that is looked up in a table rather than by bisection


def read_comparisons(path: str | Path, templates: Templates) -> Verification:
    """The 1:1 task of a file without header, two TEMPLATE_IDs a row, and of the templates that it names; genuine: equal subjects.

    Where the ids are whole numbers the file may have many millions of rows.

    Raises:
        ConfigError: A row is not two ids, or names a template that ``templates`` lacks; no row.
    """
    read = _number_pairs if templates.ids.dtype.kind == 'i' else _text_pairs
    pairs = read(existing(path), templates)
    if not len(pairs):
        raise ConfigError(f'{path}: no pairs in it')
    used = np.zeros(len(templates), bool)
    used[pairs] = True
    wanted = np.flatnonzero(used)
    if len(wanted) < len(templates):
        pairs = (np.cumsum(used) - 1).astype(np.int32)[pairs]
        templates = select(templates, wanted)
    genuine = np.equal(*_codes_of(templates.subjects)[pairs].T)
    return Verification(templates, pairs, genuine)


def lookup(ids: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """A function that turns an array of whole numbers into their places in ``ids``, int32, -1 where one is not there."""
    if ids.min() >= 0 and ids.max() < TABLE:
        table = np.full(int(ids.max()) + 2, -1, np.int32)  # the last entry stands for all that are too high
        table[ids] = np.arange(len(ids))
        last = len(table) - 1
        return lambda values: table[np.minimum(values, last)]
    order = np.argsort(ids)
    ordered = ids[order]

    def bisect(values: np.ndarray) -> np.ndarray:
        places = np.minimum(np.searchsorted(ordered, values), len(ids) - 1)
        return np.where(ordered[places] == values, order[places], -1).astype(np.int32)

    return bisect


def unknown_template(path: str | Path, line: int, name: object, templates: Templates, extra: str = '') -> ConfigError:
    near = near_names(str(name), [str(one) for one in templates.ids[:1000].tolist()], most=6)
    return ConfigError(
        f'{path}, row {line}: template {clip(str(name))!r} is not in the metadata of {len(templates)} templates{extra}; {near}'
    )


def _number_pairs(path: Path, templates: Templates) -> np.ndarray:
    find, found = lookup(templates.ids), [np.empty((0, 2), np.int32)]
    for lines, rows in read_number_rows(path, ('TEMPLATE_ID', 'TEMPLATE_ID'), HEADER):
        places = find(rows)
        if places.size and places.min() < 0:
            row, side = np.argwhere(places < 0)[0]
            raise unknown_template(path, lines[row], rows[row, side], templates)
        found.append(places)
    return np.concatenate(found)


def _text_pairs(path: Path, templates: Templates) -> np.ndarray:
    index = {name: place for place, name in enumerate(templates.ids.tolist())}

    def places(file):
        reader = csv.reader(file)
        for row in reader:
            if not any(field.strip() for field in row):
                continue
            if len(row) != 2:
                raise ConfigError(f'{path}, row {reader.line_num}: {len(row)} fields; a row is two TEMPLATE_IDs')
            for name in row:
                place = index.get(name.strip())
                if place is None:
                    extra = f'. {HEADER}' if reader.line_num == 1 else ''
                    raise unknown_template(path, reader.line_num, name.strip(), templates, extra)
                yield place

    try:
        with path.open(encoding='utf-8-sig', newline='') as file:
            return np.fromiter(places(file), np.int32).reshape(-1, 2)
    except (UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(f'{path}: not a CSV file in UTF-8 ({error})') from error


def _codes_of(values: np.ndarray) -> np.ndarray:
    """Equal numbers for equal values; comparing 15 million texts would take minutes and gigabytes."""
    return np.unique(values, return_inverse=True)[1].astype(np.int32)
