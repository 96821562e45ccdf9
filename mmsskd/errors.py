"""The exceptions that a user meets. Each message names the key, what was found, what is allowed, and the fix."""

import difflib
from collections.abc import Iterable, Mapping


class ConfigError(ValueError):
    """A mistake in a config, a checkpoint or a data set, found before training starts."""


class NonFiniteLossError(FloatingPointError):
    """A loss became NaN or infinite during training; the run was stopped after a checkpoint was saved."""


def candidates(wrong: str, allowed: Iterable[str], most: int = 12) -> str:
    """The names that ``wrong`` may have meant, the likeliest first, for the end of a message."""
    allowed = list(allowed)
    close = difflib.get_close_matches(wrong, allowed, n=3, cutoff=0.5)
    names = close + [name for name in allowed if name not in close]
    shown = ', '.join(names[:most]) + (f', ... ({len(names)} in all)' if len(names) > most else '')
    return (f'did you mean {close[0]!r}? ' if close else '') + f'Candidates: {shown or "none"}'


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
