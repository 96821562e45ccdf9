"""Shortcuts past what MMEngine does anew for each run, a third of the time of small ones, and what no test is about."""

import contextlib
import functools
import gc
import sys
from types import SimpleNamespace

import mmengine.config.utils
import mmengine.dataset.base_dataset
import sklearn.datasets
import yapf.yapflib.yapf_api
from mmengine.utils import get_installed_path


def take() -> None:
    """Parse a metafile once, of which each ``package::path`` reads a hundred; lay no config out; and whenever a data set is built,
    do not look for garbage in all that was imported, for a third of a second, but only in what came since. Read scikit-learn's
    digits once, of which each data set is a copy.
    """
    mmengine.config.utils.load = functools.cache(mmengine.config.utils.load)
    mmengine.dataset.base_dataset.gc = SimpleNamespace(collect=_collect)
    yapf.yapflib.yapf_api.FormatCode = lambda text, **options: (text, True)
    sklearn.datasets.load_digits = functools.cache(sklearn.datasets.load_digits)


def _collect() -> None:
    gc.collect()
    if len(sys.modules) > _collect.seen + 100:
        _collect.seen = len(sys.modules)
        gc.freeze()


_collect.seen = 0


def read_metafiles(package: str) -> None:
    """Parse those of a package, for processes that are forked from this one."""
    with contextlib.suppress(ValueError):  # no config has that name
        mmengine.config.utils._get_cfg_metainfo(get_installed_path(package), '')
