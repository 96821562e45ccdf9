"""The exceptions that a user meets. Each message names the key, what was found, what is allowed, and the fix."""

import difflib
import inspect
import re
import traceback
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

NO_OPS = (
    'detection needs mmcv with compiled ops, which this environment has not. In the checkout: `make ops`. Elsewhere, with a C++ '
    'compiler: pip install --no-build-isolation --no-cache-dir --force-reinstall --no-deps onedl-mmcv==2.3.6 (after torch)'
)


class ConfigError(ValueError):
    """A mistake in a config, a checkpoint or a data set, found before training starts."""


class NonFiniteLossError(FloatingPointError):
    """A loss or a weight became NaN or infinite during training; the message names the last good checkpoint."""


def candidates(wrong: str, allowed: Iterable[str], most: int = 12) -> str:
    """The names that ``wrong`` may have meant, the likeliest first, for the end of a message."""
    allowed = list(allowed)
    close = difflib.get_close_matches(wrong, allowed, n=3, cutoff=0.5)
    names = close + [name for name in allowed if name not in close]
    shown = ', '.join(names[:most]) + (f', ... ({len(names)} in all)' if len(names) > most else '')
    return (f'did you mean {close[0]!r}? ' if close else '') + f'Candidates: {shown or "none"}'


def some(names: Iterable, most: int = 3) -> str:
    """The first of ``names``, for a message."""
    names = list(map(str, names))
    return ', '.join(names[:most]) + (', ...' if len(names) > most else '')


def check_keys(cfg, allowed: Iterable[str], where: str, gone: Mapping[str, str] | None = None) -> None:
    """Refuse what is no dict, and keys that do not exist.

    Args:
        cfg: From a config.
        allowed: The keys that exist.
        where: The key of ``cfg`` itself, for the message.
        gone: Keys that existed once, and what to do instead.

    Raises:
        ConfigError: With near names.
    """
    allowed = list(allowed)
    if not isinstance(cfg, Mapping):
        raise ConfigError(f'{where} must be a dict with some of {", ".join(allowed)}; found {cfg!r}')
    for key in cfg:
        if key in (gone or {}):
            raise ConfigError(f'{where}: {key!r} is gone: {gone[key]}')
        if key not in allowed:
            raise ConfigError(f'{where}: unknown field {key!r}; {candidates(str(key), allowed)}')


def check_whole(where: str, value, least: int = 1, unit: str = '') -> None:
    """Refuse, with a :class:`ConfigError`, what is no whole number of at least ``least``."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ConfigError(f'{where} must be a whole number{unit} of at least {least}, found {value!r}')


def describe(error: Exception) -> str:
    """The message of an exception, where others raised it with its type, and with near names where one was not registered."""
    if isinstance(error, (ConfigError, NonFiniteLossError)):
        return str(error)
    if isinstance(error, ImportError) and ('mmcv._ext' in str(error) or 'mmcv.ops' in str(error)):
        return NO_OPS
    message = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    found = re.search(r'(\S+) is not in the \S+::(.+?) registry', message)
    if not found:
        return f'{type(error).__name__}: {message}{_known_arguments(error, message)}'
    from mmengine import registry

    wrong, kind = found.groups()
    known = {
        (tree.scope, name)
        for root in vars(registry).values()
        if isinstance(root, registry.Registry)
        # mmpretrain calls one of its registries otherwise than MMEngine does
        and kind in (root.name, *(child.name for child in root.children.values()))
        for tree in (root, *root.children.values())
        for name in tree.module_dict
    }
    name = wrong.rpartition('.')[2]
    elsewhere = sorted(f"'{scope}.{name}'" for scope, other in known if other == name)
    fix = f'write {" or ".join(elsewhere)}' if elsewhere else candidates(name, sorted({name for _, name in known}))
    return f'there is no {kind} of type {wrong!r}; {fix}'


def _known_arguments(error: Exception, message: str) -> str:
    """List the arguments of a class or a function that was given one it does not have, for the end of the message; else nothing."""
    found = re.search(r"^([\w.<>]+?)(?:\.__init__)?\(\) got an unexpected keyword argument '(\w+)'", message)
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    if not isinstance(error, TypeError) or not found or not frames:
        return ''
    name, wrong = found.groups()
    inside, around = frames[-1].f_locals, frames[-1].f_globals  # the frame that called it
    called = [*inside.values(), *type(inside.get('self')).__mro__, *around.values()]
    known = next((each for each in called if callable(each) and getattr(each, '__qualname__', None) == name), None)
    if known is None:
        return ''
    arguments = inspect.signature(known).parameters.values()
    return f'; {candidates(wrong, [each.name for each in arguments if each.kind not in (each.VAR_POSITIONAL, each.VAR_KEYWORD)])}'


@contextmanager
def explaining(what: str):
    """Make what fails inside a :class:`ConfigError` that begins with ``what``; those of ours stay as they are."""
    try:
        yield
    except (ConfigError, NonFiniteLossError):
        raise
    except Exception as error:
        raise ConfigError(f'{what}: {describe(error)}') from error


@contextmanager
def naming(cfg, key: str = ''):
    """Make what fails while parts of a config are built a :class:`ConfigError` that names the part.

    What others say of a wrong value names neither its key nor the value. Which part it is follows from the traceback: the
    innermost of those that a function of MMEngine was called with.

    Args:
        cfg: The config whose parts are built inside the context, a whole one or a dict.
        key: Where it is in the config of the run. Without one, an error while no part of ``cfg`` is being built stays as it is.

    Raises:
        ConfigError: In place of any other exception.
    """
    try:
        yield
    except (ConfigError, NonFiniteLossError):
        raise
    except Exception as error:
        path, part = part_in_work(cfg, error)
        where = f'{key}{path}' if key else path.removeprefix('.')
        if not where or describe(error) == NO_OPS:  # the latter is a matter of the machine
            raise
        found = repr(part)
        found = found if len(found) <= 300 else f'{found[:300]}...'
        raise ConfigError(f'{where} cannot be built: {describe(error)}\n  It is {found}') from error


def part_in_work(cfg, error: Exception) -> tuple[str, object]:
    """Path and value of the innermost part of ``cfg`` that was being built when ``error`` was raised."""
    cfg = cfg if isinstance(cfg, Mapping) else dict(cfg)
    path, node = '', cfg
    for frame, _ in traceback.walk_tb(error.__traceback__):
        if not frame.f_globals.get('__name__', '').startswith('mmengine.'):
            continue
        names = frame.f_code.co_varnames[: frame.f_code.co_argcount]
        values = [frame.f_locals[name] for name in names if isinstance(frame.f_locals.get(name), (Mapping, list))]
        below: list[tuple[str, object]] = []
        if len(values) == 1 and values[0]:  # one that gets many, such as the Runner itself, does not say which
            below = [found for found in _walk(node) if _is_same(found[1], values[0])][:1]
            if not below:  # a loop is built from its own part, and builds its data loader from another
                elsewhere = [found for found in _walk(cfg) if _is_same(found[1], values[0])][:1]
                path, node = elsewhere[0] if elsewhere else (path, node)
        elif frame.f_code.co_name == 'build_from_cfg' and isinstance(node, Mapping):  # of what is no config at all
            wrong = frame.f_locals.get('cfg')
            below = [(f'.{key}', value) for key, value in node.items() if type(value) is type(wrong) and value == wrong]
        if len(below) == 1:
            path, node = path + below[0][0], below[0][1]
    return path, node


def _walk(node, path: str = '') -> Iterator[tuple[str, object]]:
    """All dicts and lists inside ``node``, those near the root first, each with its path."""
    held = node if isinstance(node, (Mapping, list, tuple)) else ()
    items: Iterable = held.items() if isinstance(held, Mapping) else enumerate(held)
    inner = [
        (f'{path}[{key}]' if isinstance(key, int) else f'{path}.{key}', value)
        for key, value in items
        if isinstance(value, (Mapping, list, tuple))
    ]
    yield from inner
    for where, value in inner:
        yield from _walk(value, where)


def _is_same(part, built) -> bool:
    """Whether what is built is that part of the config, but for the keys that MMEngine adds or takes out on the way."""
    if not isinstance(part, Mapping) or not isinstance(built, Mapping):
        return type(part) is type(built) and part == built
    ours, theirs = ({key for key in each if key != '_scope_'} for each in (part, built))
    common = ours & theirs
    return bool(common) and (ours <= theirs or theirs <= ours) and all(part[key] == built[key] for key in common)
