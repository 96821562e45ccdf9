"""Helpers of the tools that need no torch: the package on the path, and errors that say one thing."""

import os
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

if find_spec('mmsskd') is None:  # a checkout that is not installed: this file is in its tools/face
    sys.path.append(str(Path(__file__).resolve().parents[2]))

from mmsskd.errors import ConfigError


def run(main: Callable[[], None]) -> None:
    """Run a tool: mistakes of a user and of files are one message and exit code 1; ``MMSSKD_TRACEBACK=1`` keeps tracebacks."""
    try:
        main()
    except (ConfigError, OSError) as error:
        if os.environ.get('MMSSKD_TRACEBACK'):
            raise
        print(f'error: {error}', file=sys.stderr)
        sys.exit(1)
