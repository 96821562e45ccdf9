"""Reminder: what was warned of while a run was set up and trained is said once more at its end, where somebody looks."""

import logging
import textwrap
from pathlib import Path

from mmengine.logging import MMLogger

PACKAGE = Path(__file__).resolve().parents[2]
LENGTH = 200  # of what is repeated of a warning


class Reminder(logging.Handler):
    """Keep the warnings that code of this package gives a logger.

    Args:
        logger: Of the run.

    Example:
        >>> reminder = Reminder(MMLogger('reminded', log_level='ERROR'))
        >>> reminder.said.append('phase 1: its learning rate is 0 in 80% of its iterations')
        >>> reminder.close_run()
    """

    def __init__(self, logger: MMLogger):
        super().__init__(logging.WARNING)
        self.logger, self.said = logger, list[str]()
        logger.addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno == logging.WARNING and PACKAGE in Path(record.pathname).resolve().parents:
            self.said.append(record.getMessage())

    def close_run(self) -> None:
        """Repeat them in one line, and listen no more."""
        self.logger.removeHandler(self)
        count = len(self.said)
        if count:
            texts = [
                f'({i}) {textwrap.shorten(text, LENGTH, placeholder=" ...")}' for i, text in enumerate(self.said, 1)
            ]
            self.logger.warning(f'{count} warning{"s" if count > 1 else ""}: {" ".join(texts)}')
        self.said.clear()
