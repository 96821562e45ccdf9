"""Modules of OpenMMLab, imported without what they say of packages and ops that they can do without, or of each file read."""

import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from importlib import import_module

from mmengine.logging import MMLogger


def import_quietly(*modules: str) -> None:
    """Import modules before a registry does; of what they print nothing is seen.

    One that cannot be imported is left to whoever needs it, and so to the message that is raised there.
    """
    warnings.filterwarnings('ignore', 'Fail to import ``MultiScaleDeformableAttention``')
    logger = MMLogger.get_current_instance()  # made here: within the next lines it would print into nothing
    for handler in logger.handlers:
        if not any(isinstance(each, _OfUse) for each in handler.filters):
            handler.addFilter(_OfUse())
    with redirect_stdout(io.StringIO()):
        for module in modules:
            with suppress(ImportError):
                import_module(module)


@contextmanager
def warnings_alone() -> Iterator[None]:
    """Let the logger say nothing below a warning meanwhile: what a network that is only looked at says, its run says again."""
    logger = MMLogger.get_current_instance()
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)


class _OfUse(logging.Filter):
    """Passes what is of use, and once what each file that is read says of the environment: a comparison reads dozens."""

    def __init__(self):
        super().__init__()
        self.said: set[str] = set()

    def filter(self, record: logging.LogRecord) -> bool:
        message = record.getMessage()
        if message in self.said or message.startswith(('Line NMS is not compiled', 'Loads checkpoint by ')):
            return False
        if message.startswith('Using env variable '):
            self.said.add(message)
        return True


import_quietly('mmpretrain.datasets')

from mmpretrain.datasets import BaseDataset  # noqa: E402

__all__ = ['BaseDataset', 'import_quietly', 'warnings_alone']
