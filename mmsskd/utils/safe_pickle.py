"""Pickled data from others, read without running anything that the file names."""

import pickle
import reprlib
from collections.abc import Callable
from typing import Any, BinaryIO, Literal

import numpy as np

KINDS = 'biufSU'  # bool, whole numbers, floats, text: of what arrays may be
MODULES = ('numpy.core.multiarray', 'numpy._core.multiarray', 'numpy.core.numeric', 'numpy._core.numeric')

_brief = reprlib.Repr()
_brief.maxlevel = 2
_brief.maxstring = _brief.maxother = _brief.maxlong = 60


def shown(value) -> str:
    """A value from a file for a message: at most some hundred characters. ``repr`` takes for ever on lists in lists in lists."""
    try:
        return _brief.repr(value.view(np.ndarray) if isinstance(value, np.ndarray) else value)
    except ValueError:  # a number of more digits than Python writes
        return f'a {type(value).__name__}'


def load_data(file: BinaryIO, encoding: str = 'ASCII'):
    """Read one pickle that consists of data: lists, tuples, dicts, strings, bytearrays, numbers, and numpy arrays of numbers.

    A pickle names the functions that rebuild what it holds, so ``pickle.load`` runs whatever its author likes. Here the names that
    arrays need are answered by functions of this file, which only build arrays, from no more bytes than the file has; any other
    name is an error. Protocols 0 to 5 and files of Python 2 are read.

    Args:
        file: Opened in binary mode.
        encoding: For strings of Python 2: ``'bytes'`` leaves them bytes, others decode them.

    Raises:
        pickle.UnpicklingError: The pickle names anything else, or is damaged.
    """
    try:
        return _DataOnly(file, encoding=encoding).load()
    except Exception as error:  # a damaged pickle fails in any way, and with any text of its own
        other = not isinstance(error, pickle.UnpicklingError)
        kind = f'it is damaged or no pickle, {type(error).__name__}: ' if other else ''
        text = str(error)
        raise pickle.UnpicklingError(kind + (text if len(text) <= 300 else f'{text[:300]} ...')) from error


class _DataOnly(pickle.Unpickler):
    def find_class(self, module: str, name: str):
        stand_in: Callable
        if (module, name) == ('_codecs', 'encode'):
            stand_in = _encode
        elif (module, name) in (('__builtin__', 'bytes'), ('builtins', 'bytes')):
            stand_in = _no_bytes
        elif (module, name) in (('__builtin__', 'bytearray'), ('builtins', 'bytearray')):
            stand_in = _bytearray
        elif (module, name) == ('numpy', 'dtype'):
            stand_in = _DType
        elif (module, name) == ('numpy', 'ndarray'):
            return None  # only an argument of _reconstruct; a call of it fails
        elif module in MODULES and name in ('_reconstruct', 'scalar', '_frombuffer'):
            stand_in = globals()[name]
        else:
            raise pickle.UnpicklingError(f'it names {module[:60]}.{name[:60]}, which is no data')
        return lambda *arguments: stand_in(*arguments)  # a fresh one: a pickle may set attributes of what it has got


def _encode(text: str, encoding: str) -> bytes:
    """Decode bytes as Python 3 writes them in protocols 0 to 2: as the text with these code points."""
    if encoding not in ('latin1', b'latin1'):
        raise pickle.UnpicklingError(f'it encodes text in {shown(encoding)}, where bytes are written in latin1')
    return text.encode('latin1')


def _no_bytes() -> bytes:
    """Decode empty bytes as those protocols write them."""
    return b''


def _bytearray(*data) -> bytearray:
    """Decode a bytearray as protocols 0 to 4 write it: of bytes, or of text in latin1; never of a number, which asks for memory."""
    content = _encode(*data) if len(data) == 2 else data[0] if data else b''
    if not isinstance(content, bytes):
        raise pickle.UnpicklingError('it names builtins.bytearray, which is no data but for bytes')
    return bytearray(content)


class _DType:
    """A dtype in the making: its state is read here, as numpy's own would let a file change the layout of its arrays."""

    __slots__ = ('real',)

    def __init__(self, code: str | bytes, *_):
        if not isinstance(code, (bytes, str)):
            raise pickle.UnpicklingError(f'it names a dtype by {shown(code)}')
        self.real = np.dtype(code.decode() if isinstance(code, bytes) else code)
        if self.real.kind not in KINDS or not self.real.itemsize:  # of items of no bytes, a few make any number
            raise pickle.UnpicklingError(f'it holds an array of {self.real}, which is no plain data')

    def __setstate__(self, state: tuple) -> None:
        order = state[1].decode() if isinstance(state[1], bytes) else state[1]
        if order in ('<', '>'):
            self.real = self.real.newbyteorder('<' if order == '<' else '>')


class _Array(np.ndarray):
    """An array whose content is set once its dtype is known."""

    def __setstate__(self, state: tuple) -> None:
        shape, dtype, fortran, data = state[-4:]
        data = data.encode('latin1') if isinstance(data, str) else data
        if not isinstance(data, (bytes, bytearray)):  # of a number, bytes() would ask for so much memory
            raise pickle.UnpicklingError(f'it holds an array of {shown(data)}')
        whole: Any = 1, shape, dtype.real, bool(fortran), bytes(data)
        super().__setstate__(whole)

    def __reduce_ex__(self, protocol):
        return self.view(np.ndarray).__reduce_ex__(protocol)  # saved again, it is an array like any other


def _reconstruct(*_) -> np.ndarray:
    return np.empty(0, np.uint8).view(_Array)


def _frombuffer(data: bytes, dtype: _DType, shape: tuple, order: Literal['A', 'C', 'F']) -> np.ndarray:
    return np.frombuffer(data, dtype.real).reshape(shape, order=order)


def scalar(dtype: _DType, data: bytes | str) -> np.generic:
    return np.frombuffer(data.encode('latin1') if isinstance(data, str) else data, dtype.real)[0]


# what a pickle that is read by another unpickler may name of numpy, and what answers; the last one, which no name can spell, is
# what the first ones make
ARRAY_PARTS: dict[str, Any] = {
    **{f'{module}.{part.__name__}': part for module in MODULES for part in (_reconstruct, _frombuffer, scalar)},
    'numpy.dtype': _DType,
    'numpy.ndarray': None,
    '\n': _Array,
}
