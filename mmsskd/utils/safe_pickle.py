"""Pickled data from others, read without running anything that the file names."""

import pickle
from typing import BinaryIO

import numpy as np

KINDS = 'biufSU'  # bool, whole numbers, floats, text: of what arrays may be
MODULES = ('numpy.core.multiarray', 'numpy._core.multiarray', 'numpy.core.numeric', 'numpy._core.numeric')


def load_data(file: BinaryIO, encoding: str = 'ASCII'):
    """Read one pickle that consists of data: lists, tuples, dicts, strings, bytes, numbers, and numpy arrays of numbers.

    A pickle names the functions that rebuild what it holds, so ``pickle.load`` runs whatever its author likes. Here the names that
    arrays need are answered by functions of this file, which only build arrays, from no more bytes than the file has; any other
    name is an error. Protocols 0 to 5 and files of Python 2 are read.

    Args:
        file: Opened in binary mode.
        encoding: For strings of Python 2: ``'bytes'`` leaves them bytes, others decode them.

    Raises:
        pickle.UnpicklingError: The pickle names anything else.
        Exception: It is damaged; almost any kind.
    """
    return _DataOnly(file, encoding=encoding).load()


class _DataOnly(pickle.Unpickler):
    def find_class(self, module: str, name: str):
        if (module, name) == ('_codecs', 'encode'):
            stand_in = _encode
        elif (module, name) in (('__builtin__', 'bytes'), ('builtins', 'bytes')):
            stand_in = _no_bytes
        elif (module, name) == ('numpy', 'dtype'):
            stand_in = _DType
        elif (module, name) == ('numpy', 'ndarray'):
            return None  # only an argument of _reconstruct; a call of it fails
        elif module in MODULES and name in ('_reconstruct', 'scalar', '_frombuffer'):
            stand_in = globals()[name]
        else:
            raise pickle.UnpicklingError(f'it names {module}.{name}, which is no data')
        return lambda *arguments: stand_in(*arguments)  # a fresh one: a pickle may set attributes of what it has got


def _encode(text: str, encoding: str) -> bytes:
    """How Python 3 writes bytes in protocols 0 to 2: as the text with these code points."""
    if encoding not in ('latin1', b'latin1'):
        raise pickle.UnpicklingError(f'it encodes text in {encoding!r}, where bytes are written in latin1')
    return text.encode('latin1')


def _no_bytes() -> bytes:
    """How those protocols write empty bytes."""
    return b''


class _DType:
    """A dtype in the making: its state is read here, as numpy's own would let a file change the layout of its arrays."""

    __slots__ = ('real',)

    def __init__(self, code: str | bytes, *_):
        self.real = np.dtype(code.decode() if isinstance(code, bytes) else str(code))
        if self.real.kind not in KINDS:
            raise pickle.UnpicklingError(f'it holds an array of {self.real}, which is no plain data')

    def __setstate__(self, state: tuple) -> None:
        order = state[1].decode() if isinstance(state[1], bytes) else state[1]
        if order in ('<', '>'):
            self.real = self.real.newbyteorder(order)


class _Array(np.ndarray):
    """An array whose content is set once its dtype is known."""

    def __setstate__(self, state: tuple) -> None:
        shape, dtype, fortran, data = state[-4:]
        data = data.encode('latin1') if isinstance(data, str) else data
        super().__setstate__((1, shape, dtype.real, bool(fortran), bytes(data)))


def _reconstruct(*_) -> np.ndarray:
    return np.empty(0, np.uint8).view(_Array)


def _frombuffer(data: bytes, dtype: _DType, shape: tuple, order: str) -> np.ndarray:
    return np.frombuffer(data, dtype.real).reshape(shape, order=order)


def scalar(dtype: _DType, data: bytes | str) -> np.generic:
    return np.frombuffer(data.encode('latin1') if isinstance(data, str) else data, dtype.real)[0]
