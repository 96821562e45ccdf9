"""A tap is a module and its output. Capturing it costs one forward hook for the length of one forward."""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import contextmanager

from torch import Tensor, nn

from ...errors import ConfigError, describe


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


def with_tensors(output, tensors: Sequence[Tensor]):
    """A module's output with ``tensors`` in the place of its own, as :func:`feature_tensors` orders them."""
    waiting = iter(tensors)

    def put(item):
        if isinstance(item, Tensor):
            return next(waiting) if item.is_floating_point() else item
        if isinstance(item, dict):
            return type(item)((key, put(value)) for key, value in item.items())
        if isinstance(item, (tuple, list)):
            items = [put(value) for value in item]
            return type(item)(*items) if hasattr(item, '_fields') else type(item)(items)
        return item

    return put(output)


@contextmanager
def capture(model: nn.Module, taps: Iterable[str] | Mapping[str, int], stop: bool = False):
    """Collect the outputs of the modules ``taps`` during the forward in the body; yields a dict from path to tensors.

    Args:
        model: Holds the modules.
        taps: Module paths in ``model``; or a dict from each to how often it runs, 1 without. The tensors of the calls, of a head
            one for each level, follow one another.
        stop: End the forward in the body as soon as every tap has run that often.
    """
    due = dict(taps) if isinstance(taps, Mapping) else dict.fromkeys(taps, 1)
    features: dict[str, tuple[Tensor, ...]] = {}

    def keep(path):
        def hook(module, args, output):
            tensors, several = feature_tensors(output), path in features and calls[path] > 1
            features[path] = (*features[path], *tensors) if several else tensors
            due[path] -= 1
            if stop and not any(left > 0 for left in due.values()):
                raise _Reached

        return hook

    calls = dict(due)
    handles = [model.get_submodule(path).register_forward_hook(keep(path)) for path in due]
    try:
        yield features
    except _Reached:
        pass
    finally:
        for handle in handles:
            handle.remove()


def features_at(
    model: nn.Module, inputs: Tensor, taps: Iterable[str] | Mapping[str, int], logits: str | None = None
) -> dict[str, tuple[Tensor, ...]]:
    """Run ``model`` on ``inputs`` up to the last of ``taps``, and of the module ``logits``, and no further; see :func:`capture`.

    Returns:
        Each tap's tensors, by its path.
    """
    taps = dict(taps) if isinstance(taps, Mapping) else dict.fromkeys(taps, 1)
    if logits is None:
        with capture(model, taps, stop=True) as features:
            run_heads(model, model.extract_feat(inputs), [tap for tap in taps if tap not in features])
    else:
        with capture(model, {logits: 1, **taps}, stop=True) as features:
            model(inputs, None, mode='tensor')
    return features


def run_heads(model: nn.Module, feature, taps: Iterable[str]) -> None:
    """Run those heads of ``model`` on ``feature``, what ``extract_feat`` returned, that hold the ``taps``.

    Raises:
        ConfigError: A head needs more than features, such as a RoI head its proposals.
    """
    for name in dict.fromkeys(tap.split('.')[0] for tap in taps):
        head = model.get_submodule(name)
        try:
            head(feature)
        except (_Reached, ConfigError):
            raise
        except Exception as error:
            raise ConfigError(
                f'{name!r}, {type(head).__name__}, does not run on the features alone ({describe(error)}), so no stage can end in '
                'it. Heads that do are the dense ones (bbox_head of one stage, rpn_head).'
            ) from error
