"""Checkpoints from others, read as data: what a file names is built from a short list, or the file is refused.

``torch.load`` runs whatever the author of a file likes, unless it is told ``weights_only=True``; MMEngine tries that first and then
falls back to running it. Here nothing falls back: who trusts an author says so, with ``--trust-checkpoint``, with
``trust_checkpoint=True`` at the top of a config, or with ``MMSSKD_TRUST_CHECKPOINT=1`` for the tools of others.
"""

import argparse
import collections
import datetime
import os
import pathlib
import pickle
import re
from collections.abc import Callable
from typing import Any, BinaryIO, TextIO

import torch
import yaml
from mmengine.config import ConfigDict
from mmengine.fileio import PickleHandler, YamlHandler, register_handler
from mmengine.logging import HistoryBuffer
from mmengine.optim import OneCycleParamScheduler

from ..errors import ConfigError
from .safe_pickle import ARRAY_PARTS, load_data, shown

SafeLoader = getattr(yaml, 'CSafeLoader', yaml.SafeLoader)
VARIABLE = 'MMSSKD_TRUST_CHECKPOINT'  # child processes have it too: workers of a comparison, ranks
WAYS_OUT = (
    'If you trust its author, pass --trust-checkpoint, or set trust_checkpoint=True at the top of the config; if not, ask for '
    'the weights alone (docs/security.md)'
)


def trust(whether: bool | None) -> None:
    """Let this process, and those that it starts, run what checkpoints name, where the user says so."""
    if whether:
        os.environ[VARIABLE] = '1'


def is_trusting() -> bool:
    """Whether the user trusts the authors of the checkpoints of this process."""
    return os.environ.get(VARIABLE) == '1'


def load_as_data(load: Callable[..., Any], where: str) -> Any:
    """A checkpoint, with nothing in it but tensors, arrays and other data.

    Args:
        load: Called with ``weights_only=True``, or False where the user trusts the author; such as ``torch.load`` of a file.
        where: What is loaded, for the message.

    Raises:
        ConfigError: It names something else; the message says what.

    Example:
        >>> import functools, tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     torch.save(dict(state_dict=dict(weight=torch.ones(2))), f'{folder}/weights.pth')
        ...     load_as_data(functools.partial(torch.load, f'{folder}/weights.pth'), 'weights.pth')
        {'state_dict': {'weight': tensor([1., 1.])}}
    """
    if is_trusting():
        return load(weights_only=False)
    try:
        with torch.serialization.safe_globals(ALLOWED):
            checkpoint = load(weights_only=True)
    except pickle.UnpicklingError as error:
        reason = str(error.__context__ or error).strip()  # torch's own, before its advice to load the file as code
        if re.search('operand|magic number', reason):  # damaged, or no checkpoint
            raise pickle.UnpicklingError(reason) from error
        named = re.search(r'GLOBAL (\S+)', reason)
        found = f'it names {named[1][:100]}' if named else reason[:200]
        raise ConfigError(
            f'{where} holds more than data ({found}): loading it could run code of whoever wrote it. {WAYS_OUT}'
        ) from error
    meta = checkpoint.get('meta') if isinstance(checkpoint, dict) else None
    if isinstance(meta, dict):
        meta.pop('config', None)  # of MMEngine's first versions: a Runner that resumes would run this text as Python
    return checkpoint


@register_handler(['pickle', 'pkl'])
class DataPickles(PickleHandler):
    """Pickles that a config names, such as lists of annotations or proposals, read as data in place of MMEngine's own reader."""

    def load_from_fileobj(self, file: BinaryIO, **kwargs):
        if is_trusting():
            return super().load_from_fileobj(file, **kwargs)
        try:
            return load_data(file, **kwargs)
        except pickle.UnpicklingError as error:
            raise ConfigError(f'a pickle that the config names holds more than data ({error}). {WAYS_OUT}') from error


@register_handler(['yaml', 'yml'])
class DataYaml(YamlHandler):
    """The same for YAML, whose tags can name functions to be called."""

    def load_from_fileobj(self, file: TextIO, **kwargs):
        if not is_trusting():
            kwargs['Loader'] = SafeLoader
        return super().load_from_fileobj(file, **kwargs)


def _attribute(holder: type, name: str) -> Callable:
    """Decode the methods that MMEngine puts into a checkpoint by their class and name."""
    if (holder, name) not in METHODS:
        raise pickle.UnpicklingError(f'GLOBAL {getattr(holder, "__name__", shown(holder))}.{str(name)[:60]}')
    return getattr(holder, name)


def _dict(factory: Callable | None = None) -> dict:
    """Decode a defaultdict as a dict: torch puts items into no other."""
    return {}


METHODS = [(HistoryBuffer, name) for name in ('min', 'max', 'mean', 'current')]  # how logged values are smoothed
METHODS += [(OneCycleParamScheduler, f'_annealing_{shape}') for shape in ('cos', 'linear')]
PATHS = 'PosixPath', 'WindowsPath'  # which come back as paths that touch no file

ALLOWED: list[Any] = [
    *((part, path) for path, part in ARRAY_PARTS.items()),
    *(argparse.Namespace, datetime.date, datetime.datetime, datetime.time, datetime.timedelta, datetime.timezone),
    *(bool, bytes, dict, float, frozenset, int, list, slice, str, tuple),
    *((_dict, 'collections.defaultdict'), (_attribute, 'builtins.getattr'), collections.OrderedDict),
    *(
        (getattr(pathlib, f'Pure{kind}'), f'{module}.{kind}')
        for kind in PATHS
        for module in ('pathlib', 'pathlib._local')
    ),
    *(pathlib.PurePosixPath, pathlib.PureWindowsPath, ConfigDict, HistoryBuffer, OneCycleParamScheduler),
]
