"""The version of mmsskd, and the versions of others that it works with: what is missing or too old stops the import and says what
to install, what is newer than tested only warns."""

import sys
import warnings
from collections.abc import Collection
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version

from packaging.version import Version

__version__ = '0.2.0'

# module: distributions that install it, lowest supported, first untested
SUPPORTED = {
    'torch': (('torch',), '2.6', '2.14'),  # before, weights_only=True could be made to run code (CVE-2025-32434)
    'mmengine': (('onedl-mmengine', 'mmengine', 'mmengine-lite'), '0.10.12', '0.11'),
    'mmcv': (('onedl-mmcv', 'mmcv', 'mmcv-lite'), '2.1.0', '2.4'),
    'mmpretrain': (('onedl-mmpretrain', 'mmpretrain'), '1.2.0', '1.4'),
    'mmdet': (('onedl-mmdetection', 'mmdet'), '3.3.0', '3.6'),
}
REQUIRED = ('torch', 'mmengine')  # detection alone needs mmdet, a machine without a compiler has no full mmcv
INSTALL = (
    'pip install "torch==2.12.1" "torchvision==0.27.1", then pip install --no-build-isolation "onedl-mmengine==0.10.12" '
    '"onedl-mmcv==2.3.6" "onedl-mmpretrain==1.3.6" "onedl-mmdetection==3.5.1"'
)


def installed_version(module: str) -> Version | None:
    """The version of the distribution that provides ``module``, or None where none is installed. Imports nothing."""
    return next(filter(None, map(_version_of, SUPPORTED[module][0])), None)


def _version_of(distribution: str) -> Version | None:
    try:
        return Version(version(distribution))
    except PackageNotFoundError:
        return None


def check_versions(required: Collection[str] = REQUIRED) -> None:
    """Refuse packages that are missing or too old, warn of those newer than tested.

    Args:
        required: Those that must be there.

    Raises:
        ImportError: One is missing, or below its lowest supported version; the message says what to install.
    """
    for module, (distributions, lowest, untested) in SUPPORTED.items():
        found = installed_version(module)
        if found is None and module not in required:
            continue
        if found is None or found < Version(lowest):
            state = 'is not installed' if found is None else f'is {found}'
            raise ImportError(
                f'mmsskd needs {module} >= {lowest}, which {state} (tested with {distributions[0]}). {INSTALL}'
            )
        if Version(found.base_version) >= Version(untested):
            warnings.warn(f'{module} {found} is newer than what mmsskd is tested with (below {untested})', stacklevel=3)


def skip_multimodal_models() -> None:
    """Keep ``mmpretrain.models`` importable beside transformers 5, which lacks what mmpretrain's multimodal models inherit from.

    mmpretrain registers placeholders in their place, as it does where transformers is not installed. Nothing happens beside
    another transformers, or once the models are imported.
    """
    transformers = _version_of('transformers')
    if transformers is None or transformers < Version('5.0.dev0') or 'mmpretrain.models' in sys.modules:
        return
    if installed_version('mmpretrain') is not None:
        setattr(import_module('mmpretrain.utils.dependency'), 'WITH_MULTIMODAL', False)  # noqa: B010  for mypy
