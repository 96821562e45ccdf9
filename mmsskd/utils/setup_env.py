"""The function that MMEngine's hub calls by name before it builds a model of this package."""

import importlib


def register_all_modules(init_default_scope: bool = True) -> None:
    """Import everything that registers itself; make ``mmsskd`` the default scope where there is none."""
    from mmengine.registry import DefaultScope

    for module in ('datasets', 'distill', 'face.data', 'face.models', 'models'):
        importlib.import_module(f'mmsskd.{module}')
    if init_default_scope and DefaultScope.get_current_instance() is None:
        DefaultScope.get_instance('mmsskd', scope_name='mmsskd')
