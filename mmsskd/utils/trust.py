"""Checkpoints from others, and the configs in them, read as data: what a file names is on a short list, or it is refused.

``torch.load`` runs whatever the author of a file likes, unless it is told ``weights_only=True``; MMEngine tries that first and then
falls back to running it. Here nothing falls back: who trusts an author says so, with ``--trust-checkpoint``, with
``trust_checkpoint=True`` at the top of a config, or with ``MMSSKD_TRUST_CHECKPOINT=1`` for the tools of others.
"""

import argparse
import ast
import collections
import datetime
import os
import pathlib
import pickle
import re
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO, TextIO

import torch
import yaml
from mmengine.config import Config, ConfigDict
from mmengine.config.utils import MODULE2PACKAGE
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


def config_of(value: str | Mapping, where: str) -> Config:
    """The config in a checkpoint, read as data: of Python's text only assignments of literals, lists and dicts.

    Nothing is imported, and no file is read that it names. It may name what the packages of OpenMMLab have: whoever builds it, or
    writes it to a file that is loaded later, runs only their code.

    Args:
        value: The text, as MMEngine writes it, or the data.
        where: Of what it is, for messages.

    Raises:
        ConfigError: There is something else in it.

    Example:
        >>> config_of("model = dict(type='ImageClassifier', topk=(1, 5))", 'epoch_1.pth').model.topk
        (1, 5)
        >>> config_of('model = open("x")', 'epoch_1.pth')  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ...
        mmsskd.errors.ConfigError: the config in epoch_1.pth holds more than data: open('x'). If you trust ...
    """
    if is_trusting():
        return Config.fromstring(value, '.py') if isinstance(value, str) else Config(dict(value))
    try:
        parts = value if isinstance(value, Mapping) else _assignments(value)
        _check_data(parts)
        for name in ('student', 'teacher'):
            _check_path(parts.get('model', {}).get(name))
        return Config(dict(parts))
    except _NoData as error:
        raise ConfigError(f'the config in {where} holds more than data: {error}. {WAYS_OUT}') from error
    except Exception as error:  # whatever a text can do to a parser
        found = f'{type(error).__name__}: {str(error)[:200]}'
        raise ConfigError(f'the config in {where} cannot be read ({found}). {WAYS_OUT}') from error


class _NoData(Exception):
    pass


def _assignments(text: str) -> dict:
    found = {}
    for line in ast.parse(text).body:
        if not (isinstance(line, ast.Assign) and len(line.targets) == 1 and isinstance(line.targets[0], ast.Name)):
            raise _NoData(_source(line))
        found[line.targets[0].id] = _literal(line.value)
    return found


def _literal(node: ast.expr):
    """The value of a literal; ``dict(...)``, ``inf`` and ``nan`` are some too."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == 'dict':
        first = _literal(node.args[0]) if len(node.args) == 1 else {}
        if len(node.args) > 1 or not isinstance(first, dict) or not all(each.arg for each in node.keywords):
            raise _NoData(_source(node))
        return first | {each.arg: _literal(each.value) for each in node.keywords}
    if isinstance(node, ast.Dict) and None not in node.keys:
        return {_literal(key): _literal(value) for key, value in zip(node.keys, node.values)}
    if isinstance(node, (ast.List, ast.Tuple, ast.Set)):
        kind = {ast.List: list, ast.Tuple: tuple, ast.Set: set}[type(node)]
        return kind(map(_literal, node.elts))
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub) and isinstance(node.operand, ast.Name):
        return -_literal(node.operand)
    if isinstance(node, ast.Name) and node.id in ('inf', 'nan'):
        return float(node.id)
    try:
        return ast.literal_eval(node)
    except ValueError:
        raise _NoData(_source(node)) from None


def _source(node: ast.AST) -> str:
    text = ast.unparse(node)
    return text if len(text) <= 100 else f'{text[:100]} ...'


def _check_data(value, key: object = None) -> None:
    """Refuse what MMEngine would write into a file as something else than the literal that it is, and types of other packages."""
    if isinstance(value, Mapping):
        for name, item in value.items():
            if repr(name) != f"'{name}'" and not isinstance(name, (int, float)):  # MMEngine writes keys without escapes
                raise _NoData(f'the key {shown(name)}')
            _check_data(item, name)
    elif isinstance(value, (list, tuple, set)):
        for item in value:
            _check_data(item, key)
    elif not (value is None or type(value) in (bool, int, float, complex, str, bytes)):
        raise _NoData(f'{key}={shown(value)}, a {type(value).__name__}')
    elif key == 'type' and isinstance(value, str) and '.' in value:
        package, _, name = value.rpartition('.')
        # MMEngine calls whatever is there under such a name
        # but the one function of ours that configs of runs name
        if value != 'mmsskd.stack_images' and not (
            f'{package}.'.startswith((*PACKAGES, *(f'{each}.' for each in MODULE2PACKAGE))) and name[:1].isupper()
        ):
            raise _NoData(f'type={value[:100]!r}, which is no class of a package of OpenMMLab')


def _check_path(spec) -> None:
    """Refuse the path of a config that is not part of an installed package: to read it is to run it."""
    path = spec.get('cfg_path') if isinstance(spec, Mapping) else spec
    if path is not None and ('::' not in str(path) or '..' in str(path)):
        raise _NoData(f'cfg_path={shown(path)}, a file that would be run as Python')


def _attribute(holder: type, name: str) -> Callable:
    """Decode the methods that MMEngine puts into a checkpoint by their class and name."""
    if (holder, name) not in METHODS:
        raise pickle.UnpicklingError(f'GLOBAL {getattr(holder, "__name__", shown(holder))}.{str(name)[:60]}')
    return getattr(holder, name)


def _dict(factory: Callable | None = None) -> dict:
    """Decode a defaultdict as a dict: torch puts items into no other."""
    return {}


PACKAGES = 'mmengine.', 'mmcv.', 'torch.nn.', 'torch.optim.', 'torchvision.'
METHODS = [(HistoryBuffer, name) for name in ('min', 'max', 'mean', 'current')]  # how logged values are smoothed
METHODS += [(OneCycleParamScheduler, f'_annealing_{shape}') for shape in ('cos', 'linear')]
MODULES = 'pathlib', 'pathlib._local'
PATHS = [  # which come back as paths that touch no file
    (getattr(pathlib, f'Pure{kind}'), f'{module}.{kind}') for kind in ('PosixPath', 'WindowsPath') for module in MODULES
]
ALLOWED: list[Any] = [
    *((part, path) for path, part in ARRAY_PARTS.items()),
    *(argparse.Namespace, datetime.date, datetime.datetime, datetime.time, datetime.timedelta, datetime.timezone),
    *(bool, bytes, dict, float, frozenset, int, list, slice, str, tuple),
    *((_dict, 'collections.defaultdict'), (_attribute, 'builtins.getattr'), collections.OrderedDict),
    *PATHS,
    *(pathlib.PurePosixPath, pathlib.PureWindowsPath, ConfigDict, HistoryBuffer, OneCycleParamScheduler),
]
