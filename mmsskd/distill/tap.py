"""A tap is a module and its output. Capturing it costs one forward hook for the length of one forward."""

from collections.abc import Mapping, Sequence
from contextlib import contextmanager

from torch import Tensor, nn


class _Reached(Exception):
    """Ends a forward at its last tap: nothing behind it is worth computing."""


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


Taps = Sequence[str] | Mapping[str, str | None]


@contextmanager
def capture(model: nn.Module, taps: Taps, stop: bool = False, replace: Mapping[str, Tensor] | None = None):
    """Collect the outputs of the modules ``taps`` during the forward in the body; yields a dict from path to tensors.

    Args:
        model: Holds the modules.
        taps: Module paths in ``model``. Of a mapping the values are paths too: of the activation in which the tap ends, where
            its input is wanted in place of the tap's output.
        stop: End the forward in the body as soon as every tap has run.
        replace: For some of the taps, what the forward goes on with in place of their output, which is collected all the same.
    """
    taps = dict(taps) if isinstance(taps, Mapping) else dict.fromkeys(taps)
    features: dict[str, tuple[Tensor, ...]] = {}
    before: dict[str, Tensor] = {}

    def remember(path):
        def hook(module, args):
            before[path] = args[0].clone()  # most activations work in place

        return hook

    def keep(path):
        def hook(module, args, output):
            features[path] = (before.pop(path),) if taps[path] else feature_tensors(output)
            if stop and len(features) == len(taps):
                raise _Reached
            return (replace or {}).get(path)

        return hook

    handles = [model.get_submodule(path).register_forward_hook(keep(path)) for path in taps]
    handles += [
        model.get_submodule(activation).register_forward_pre_hook(remember(path))
        for path, activation in taps.items()
        if activation
    ]
    try:
        yield features
    except _Reached:
        pass
    finally:
        for handle in handles:
            handle.remove()


def features_at(
    model: nn.Module,
    inputs: Tensor,
    taps: Taps,
    logits: str | None = None,
    replace: Mapping[str, Tensor] | None = None,
) -> dict[str, tuple[Tensor, ...]]:
    """Run ``model`` on ``inputs`` up to the last of ``taps``, and of the module ``logits``, and no further; see :func:`capture`.

    Returns:
        Each tap's tensors, by its path.
    """
    if logits is None:
        with capture(model, taps, stop=True, replace=replace) as features:
            model.extract_feat(inputs)
    else:
        with capture(model, with_logits(taps, logits), stop=True, replace=replace) as features:
            model(inputs, None, mode='tensor')
    return features


def with_logits(taps: Taps, logits: str | None) -> Mapping[str, str | None]:
    """``taps`` and the module that gives the logits, which may be one of them."""
    taps = dict(taps) if isinstance(taps, Mapping) else dict.fromkeys(taps)
    return taps if logits is None else {logits: None, **taps}
