"""The evaluation needs numpy only, but ``import mmsskd`` imports torch and MMEngine: tools that import this file first do not.

A bare module named ``mmsskd`` takes the package's place. It knows where the package's modules are, so that
``from mmsskd.face.evaluation...`` works, but does not run the package's ``__init__.py``. In a process that has already imported
mmsskd nothing is changed.
"""

import os
import sys
import types
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path


def _bare_package() -> None:
    if 'mmsskd' in sys.modules:
        return
    if find_spec('mmsskd') is None:  # a checkout that is not installed: this file is in its tools/face
        sys.path.append(str(Path(__file__).resolve().parents[2]))
    package = types.ModuleType('mmsskd')
    package.__spec__ = find_spec('mmsskd')
    package.__path__ = package.__spec__.submodule_search_locations
    sys.modules['mmsskd'] = package


_bare_package()

from mmsskd.errors import ConfigError  # noqa: E402


def run(main: Callable[[], None]) -> None:
    """Run a tool: mistakes of a user and of files are one message and exit code 1; ``MMSSKD_TRACEBACK=1`` keeps tracebacks."""
    try:
        main()
    except (ConfigError, OSError) as error:
        if os.environ.get('MMSSKD_TRACEBACK'):
            raise
        print(f'error: {error}', file=sys.stderr)
        sys.exit(1)
