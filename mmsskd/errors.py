"""The exceptions that a user meets: each message names the key, what was found, what is allowed and how to mend it."""

import difflib
from collections.abc import Iterable


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
