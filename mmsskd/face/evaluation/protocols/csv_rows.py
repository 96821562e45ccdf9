"""Columns of CSV files by name, and rows of whole numbers, with errors that name file, row and column."""

import csv
from collections.abc import Iterator, Sequence
from itertools import compress, islice
from pathlib import Path

import numpy as np

from ....errors import ConfigError
from .files import clip, existing, near_names

ROWS = 64  # rows of a CSV file that are parsed at once: few, so that they stay in the cache
BLOCK = 1 << 24  # bytes of a list of numbers that are parsed at once
SEPARATORS = bytes.maketrans(b',\t', b'  ')
TOLERANCE = 1e-3 + 1e-9  # pixels; lists write one number with other digits, 93.71428571 and 93.7142857142857
LARGEST = float(np.finfo(np.float32).max)


class Columns:
    """The wanted columns of one CSV file with a header.

    Columns are found by their names, whatever their order and case, so files with more or fewer columns are read too. Line ends
    may be mixed, blank rows are skipped. Only the wanted columns are kept in memory.

    Args:
        path: The file.
        required, optional: Names of columns.

    Attributes:
        path: The file.
        lines: (R,) of int64: for each row the line of the file, counted from 1, the header.

    Raises:
        ConfigError: No such file, not text, a column is missing or is there twice, or a row has another number of fields.
    """

    def __init__(self, path: str | Path, required: Sequence[str], optional: Sequence[str] = ()):
        self.path = existing(path)
        self._columns: dict[str, list[str]] = {}
        lines: list[int] = []
        start = 2
        try:
            with self.path.open(encoding='utf-8-sig', newline='') as file:
                reader = csv.reader(file)
                header = [name.strip().upper() for name in next(reader, [])]
                places = self._places(header, required, optional)
                self._columns = {name: [] for name in places}
                # by blocks: to keep a list for each row would be slow and large
                while rows := list(islice(reader, ROWS)):
                    numbers: Sequence[int] = range(start, start + len(rows))
                    start += len(rows)
                    fields = list(zip(*rows))
                    if set(map(len, rows)) != {len(header)} or '' in fields[0]:
                        keep = [self._whole_row(row, len(header), number) for row, number in zip(rows, numbers)]
                        numbers, rows = list(compress(numbers, keep)), list(compress(rows, keep))
                        fields = list(zip(*rows)) or [()] * len(header)
                    for name, place in places.items():
                        self._columns[name].extend(map(str.strip, fields[place]))
                    lines += numbers
        except (UnicodeDecodeError, csv.Error) as error:
            raise ConfigError(f'{self.path}: not a CSV file in UTF-8 ({error})') from error
        self.lines = np.array(lines, np.int64)
        if not len(self.lines):
            raise ConfigError(f'{self.path}: no row below the header')

    def __len__(self) -> int:
        return len(self.lines)

    def __contains__(self, name: str) -> bool:
        return name in self._columns

    def text(self, name: str) -> list[str]:
        """A column in which no field may be empty."""
        column = self._columns[name]
        if '' in column:
            raise self.error(column.index(''), name, 'it must not be empty')
        return column

    def optional_text(self, name: str) -> list[str]:
        """A column in which fields may be empty."""
        return self._columns[name]

    def whole(self, name: str) -> np.ndarray:
        """A column of whole numbers, (R,) of int64; '12.0' is 12."""
        self.text(name)
        column = self._plain(name, 'it must be a whole number')
        try:
            return np.fromiter(map(int, column), np.int64, len(column))
        except (ValueError, OverflowError):
            values = self.numbers(name)
        wrong = ~(np.isfinite(values) & (values == np.floor(values)) & (np.abs(values) < 2**53))
        if wrong.any():
            raise self.error(int(wrong.argmax()), name, 'it must be a whole number')
        return values.astype(np.int64)

    def numbers(self, name: str) -> np.ndarray:
        """A column of numbers that fit into float32, (R,) of float64, NaN where the field is empty."""
        column = self._plain(name, 'it must be a number, or empty')
        try:
            values = np.fromiter(map(float, column), np.float64, len(column))
        except ValueError:
            values = np.array([self._number(row, name, field) for row, field in enumerate(column)])
        for row in np.flatnonzero(~(np.abs(values) <= LARGEST)).tolist():
            if column[row]:
                raise self.error(
                    row, name, f'it must be finite, of at most {LARGEST:.2g}; leave it empty where it is unknown'
                )
        return values

    def group(self, names: Sequence[str]) -> np.ndarray:
        """Columns of numbers that belong together, (R, len(names)) of float64: all of a row are there, or all are empty (NaN)."""
        values = np.stack([self.numbers(name) for name in names], axis=1)
        known = np.isfinite(values)
        partly = known.any(1) & ~known.all(1)
        if partly.any():
            row = int(partly.argmax())
            name = names[int(known[row].argmin())]
            raise self.error(row, name, f'the columns {", ".join(names)} of a row must be all filled or all empty')
        return values

    def error(self, row: int, name: str, allowed: str) -> ConfigError:
        """Make the error for the field of row ``row``, counted from 0 below the header."""
        found = clip(self._columns[name][row])
        return ConfigError(f'{self.path}, row {self.lines[row]}, column {name}: found {found!r}; {allowed}')

    def _plain(self, name: str, allowed: str) -> list[str]:
        """A column of numbers without what Python takes for part of one: '1_000', digits of other scripts."""
        column = self._columns[name]
        whole = ''.join(column)
        if not whole.isascii() or '_' in whole:
            raise self.error(
                next(row for row, field in enumerate(column) if not field.isascii() or '_' in field), name, allowed
            )
        return column

    def _number(self, row: int, name: str, field: str) -> float:
        try:
            return float(field or 'nan')
        except ValueError:
            raise self.error(row, name, 'it must be a number, or empty') from None

    def _whole_row(self, row: list[str], width: int, line: int) -> bool:
        """Whether a row counts: False where it is blank; ConfigError where it has another number of fields."""
        if not any(field.strip() for field in row):
            return False
        if len(row) < width or any(field.strip() for field in row[width:]):
            raise ConfigError(
                f'{self.path}, row {line}: {len(row)} fields, but the header has {width}; a text with a comma needs quotes'
            )
        return True

    def _places(self, header: list[str], required: Sequence[str], optional: Sequence[str]) -> dict[str, int]:
        for name in required:
            if name not in header:
                raise ConfigError(
                    f'{self.path}, row 1: no column {name}; needed: {", ".join(required)}. {near_names(name, header, most=40)}'
                )
        wanted = [*required, *(name for name in optional if name in header)]
        for name in wanted:
            if header.count(name) > 1:
                raise ConfigError(f'{self.path}, row 1: {header.count(name)} columns are named {name}; keep one')
        return {name: header.index(name) for name in wanted}


def agree(here: np.ndarray, there: np.ndarray) -> np.ndarray:
    """Mask of the places at which two arrays have the same numbers, up to ``TOLERANCE``, or both have none (NaN)."""
    return (np.abs(here - there) <= TOLERANCE) | (np.isnan(here) & np.isnan(there))


def digits(values: np.ndarray) -> str:
    """Numbers for a message, with every digit that tells them from others."""
    return ', '.join('none' if np.isnan(value) else np.format_float_positional(value, trim='-') for value in values)


def read_number_rows(path: str | Path, what: Sequence[str], fix: str) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Rows of whole numbers from 0 in a text file without header, separated by commas, blanks or tabs; made for millions of rows.

    Args:
        path: The file.
        what: The name of each of the C columns, for errors.
        fix: What to do about a row of another form, for errors.

    Yields:
        For a block of n rows: their lines in the file, (n,) of int64, counted from 1, and the numbers, (n, C) of int64.

    Raises:
        ConfigError: No such file, or a row is not C whole numbers.
    """
    path = existing(path)
    line, rest = 1, b''
    with path.open('rb') as file:
        while True:
            data = file.read(BLOCK)
            block = rest + data
            if data:
                end = block.rfind(b'\n') + 1
                block, rest = block[:end], block[end:]
            elif block and not block.endswith(b'\n'):
                block += b'\n'
            if block:
                rows = _clean_block(block, len(what))
                lines = line + np.arange(0 if rows is None else len(rows))
                if rows is None:
                    lines, rows = _untidy_block(path, block, line, what, fix)
                yield lines, rows
                line += block.count(b'\n')
            if not data:
                return


def _clean_block(block: bytes, columns: int) -> np.ndarray | None:
    """The numbers of ``block``, or None where it is anything but numbers with one separator between each two."""
    block = block.translate(SEPARATORS, b'\r')
    data = np.frombuffer(block, np.uint8)
    ends = np.flatnonzero(data < ord('0'))  # blanks and line ends, if all is well
    if len(ends) % columns or data.max() > ord('9'):
        return None
    kinds = data[ends].reshape(-1, columns)
    digits = np.diff(ends, prepend=-1) - 1
    if not ((kinds[:, :-1] == ord(' ')).all() and (kinds[:, -1] == ord('\n')).all()):
        return None
    if digits.min() < 1 or digits.max() > 18:
        return None
    return np.fromstring(block, np.int64, sep=' ').reshape(-1, columns)


def _untidy_block(path: Path, block: bytes, line: int, what: Sequence[str], fix: str) -> tuple[np.ndarray, np.ndarray]:
    lines, rows = [], []
    for number, text in enumerate(block.split(b'\n'), line):
        fields = text.translate(SEPARATORS).split()
        if not fields:
            continue
        if len(fields) != len(what) or not all(field.isdigit() and len(field) <= 18 for field in fields):
            found = clip(text.strip().decode('utf-8', 'replace'))
            raise ConfigError(
                f'{path}, row {number}: found {found!r}; a row is {", ".join(what)}: whole numbers. {fix}'
            )
        lines.append(number)
        rows.append([int(field) for field in fields])
    return np.array(lines, np.int64), np.array(rows, np.int64).reshape(-1, len(what))
