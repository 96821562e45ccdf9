"""A tap is a module and its output. Capturing it costs one forward hook for the length of one forward."""

from collections.abc import Iterable
from contextlib import contextmanager

from torch import Tensor, nn


class _Reached(Exception):
    """Ends a forward at its last tap: nothing after it is worth computing."""


def feature_tensors(output) -> tuple[Tensor, ...]:
    """The tensors of a module's output, in order.

    A tensor gives itself; a tuple, list or dict gives the floating-point tensors in it, so that a Swin stage, which returns its
    tokens and their grid, gives the tokens, and an FPN gives its levels.
    """
    if isinstance(output, Tensor):
        return (output,) if output.is_floating_point() else ()
    if isinstance(output, dict):
        output = tuple(output.values())
    if isinstance(output, (tuple, list)):
        return tuple(tensor for item in output for tensor in feature_tensors(item))
    return ()


@contextmanager
def capture(model: nn.Module, taps: Iterable[str], stop: bool = False):
    """Collect the outputs of the modules ``taps`` during the forward in the body; yields a dict from path to tensors.

    Args:
        model: Holds the modules.
        taps: Module paths in ``model``.
        stop: End the forward in the body as soon as every tap has run.
    """
    taps = list(dict.fromkeys(taps))
    features: dict[str, tuple[Tensor, ...]] = {}

    def keep(path):
        def hook(module, args, output):
            features[path] = feature_tensors(output)
            if stop and len(features) == len(taps):
                raise _Reached

        return hook

    handles = [model.get_submodule(path).register_forward_hook(keep(path)) for path in taps]
    try:
        yield features
    except _Reached:
        pass
    finally:
        for handle in handles:
            handle.remove()


def features_at(
    model: nn.Module, inputs: Tensor, taps: Iterable[str], logits: str | None = None
) -> dict[str, tuple[Tensor, ...]]:
    """Run ``model`` on ``inputs`` up to the last of ``taps``, and of the module ``logits``, and no further; see :func:`capture`.

    Returns:
        Each tap's tensors, by its path.
    """
    if logits is None:
        with capture(model, taps, stop=True) as features:
            model.extract_feat(inputs)
    else:
        with capture(model, [logits, *taps], stop=True) as features:
            model(inputs, None, mode='tensor')
    return features
