"""The child registries of mmsskd. MMEngine finds this module by its name when a config says ``type='mmsskd.X'``, and imports the
``locations`` on first use, so no ``custom_imports`` is needed."""

from collections.abc import Mapping

from .version import check_versions, skip_multimodal_models

check_versions()
skip_multimodal_models()

from mmengine import registry as root  # noqa: E402
from mmengine.registry import Registry  # noqa: E402

MODELS = Registry(
    'model', parent=root.MODELS, scope='mmsskd', locations=['mmsskd.distill', 'mmsskd.models', 'mmsskd.face.models']
)
HOOKS = Registry('hook', parent=root.HOOKS, scope='mmsskd', locations=['mmsskd.distill'])
DATASETS = Registry('dataset', parent=root.DATASETS, scope='mmsskd', locations=['mmsskd.datasets', 'mmsskd.face.data'])
FUNCTIONS = Registry('function', parent=root.FUNCTIONS, scope='mmsskd', locations=['mmsskd.datasets'])
TRANSFORMS = Registry('transform', parent=root.TRANSFORMS, scope='mmsskd', locations=['mmsskd.face.data.transforms'])
METRICS = Registry('metric', parent=root.METRICS, scope='mmsskd', locations=['mmsskd.face.evaluation.metrics'])

# Nothing of ours is in these. A config that is inherited as `mmsskd::...` looks for its samplers, optimizers and schedulers here
# first, and without a registry of our scope MMEngine warns at each.
DATA_SAMPLERS = Registry('data sampler', parent=root.DATA_SAMPLERS, scope='mmsskd')
OPTIMIZERS = Registry('optimizer', parent=root.OPTIMIZERS, scope='mmsskd')
PARAM_SCHEDULERS = Registry('parameter scheduler', parent=root.PARAM_SCHEDULERS, scope='mmsskd')


def type_name(cfg) -> str:
    """The name of the type in a config, without its scope.

    The type is a name, or the class itself, as in MMEngine's pure-Python form; '' where ``cfg`` has none.
    """
    kind = cfg.get('type') if isinstance(cfg, Mapping) else None
    return getattr(kind, '__name__', str(kind or '').rpartition('.')[2])
