"""A forward of a network: ended at a tap, which is a module and its output, or watched from end to end."""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from ...errors import ConfigError, describe
from ...utils.states import in_eval_mode, makes_its_eval_mode, random_states_kept

DEFAULT_SHAPE = (3, 224, 224)  # of an image, where nobody says
# as autograd names what interpolates or pools to a given size
RESIZING = ('Upsample', 'GridSampler', 'AdaptiveAvgPool')


# -- ended at its taps -------------------------------------------------------------------------------------------------


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


# -- watched -----------------------------------------------------------------------------------------------------------


@dataclass
class Trace:
    """Record of one untruncated forward. Order is counted in module entries and exits.

    ``versions`` holds how often each tensor of an output had been changed in place when its module was left. ``heads`` are the
    children of the model that ran on what ``extract_feat`` returned; the outputs of what runs in them several times, once a
    level, follow one another. ``image`` is the height and width of what the backbone was given, ``feature`` what ``extract_feat``
    returned.
    """

    entered: dict[str, int]
    exited: dict[str, list[int]]
    outputs: dict[str, object]
    versions: dict[str, list[int]]
    image: tuple[int, ...]
    heads: list[str] = field(default_factory=list)
    feature: object = ()


def watch(model: nn.Module, inputs: Tensor, paths: Iterable[str] = ()) -> Trace:
    """Run ``model.extract_feat(inputs)`` once with a graph and note when each module runs and what it returns.

    The heads that hold those of the modules ``paths`` that have not run then run too.
    """
    trace, clock, handles = Trace({}, {}, {}, {}, tuple(inputs.shape[-2:])), [0], []

    def on_enter(path):
        def hook(module, args):
            clock[0] += 1
            trace.entered.setdefault(path, clock[0])
            if path == 'backbone' and args and isinstance(args[0], Tensor):
                trace.image = tuple(args[0].shape[-2:])

        return hook

    def on_exit(path):
        def hook(module, args, output):
            clock[0] += 1
            trace.exited.setdefault(path, []).append(clock[0])
            versions = [tensor._version for tensor in feature_tensors(output)]
            if path in trace.outputs and path.split('.')[0] in trace.heads:
                trace.outputs[path] = (*feature_tensors(trace.outputs[path]), *feature_tensors(output))
                trace.versions[path] += versions
            else:
                trace.outputs[path], trace.versions[path] = output, versions

        return hook

    for path, module in model.named_modules():
        if path:
            handles += [module.register_forward_pre_hook(on_enter(path)), module.register_forward_hook(on_exit(path))]
    try:
        image = inputs.detach().clone().requires_grad_() * 1  # what is done to the image shows in the graph too
        trace.feature = model.extract_feat(image)
        trace.heads += dict.fromkeys(path.split('.')[0] for path in paths if path not in trace.exited)
        run_heads(model, trace.feature, trace.heads)
    finally:
        for handle in handles:
            handle.remove()
    return trace


@contextmanager
def as_found(*models: nn.Module):
    """Within this context models are in eval mode with gradients on; then modes, flags and random states are as before.

    Activation checkpointing, which hides parameters from the graph, is off meanwhile.
    """
    flags = {parameter: parameter.requires_grad for model in models for parameter in model.parameters()}
    modules = [module for model in models for module in model.modules()]
    checkpointed = [module for module in modules if getattr(module, 'with_cp', False)]
    own = {module: module.training for module in modules if makes_its_eval_mode(module)}
    try:
        with in_eval_mode(*models), random_states_kept(), torch.enable_grad():
            for module in checkpointed:
                setattr(module, 'with_cp', False)  # noqa: B010  for mypy, as below
            for module in own:
                module.training = True  # they compute of the parameters themselves, which the graph then shows
            for parameter in flags:
                parameter.requires_grad_(parameter.is_floating_point())
            yield
    finally:
        for module, mode in own.items():
            module.training = mode
        for module in checkpointed:
            setattr(module, 'with_cp', True)  # noqa: B010
        for parameter, flag in flags.items():
            parameter.requires_grad_(flag)


def nodes_behind(tensors: Sequence[Tensor]) -> set:
    """Nodes of the autograd graph that ``tensors`` depend on, their own included; nothing is computed."""
    return _with_all_before(tensor.grad_fn for tensor in tensors if tensor.grad_fn is not None)


def _with_all_before(nodes: Iterable) -> set:
    seen = set(nodes)
    waiting = list(seen)
    while waiting:
        for following, _ in waiting.pop().next_functions:
            if following is not None and following not in seen:
                seen.add(following)
                waiting.append(following)
    return seen


def image_resizers(tensors: Sequence[Tensor]) -> list[str]:
    """Names of the operations before ``tensors`` that change the size of the image itself, before any layer with weights."""
    resizers = [node for node in nodes_behind(tensors) if node.name().startswith(RESIZING)]
    return [
        node.name()
        for node in resizers
        if not any(isinstance(getattr(before, 'variable', None), nn.Parameter) for before in _with_all_before([node]))
    ]


def changed_in_place_by(trace: Trace, path: str) -> str | None:
    """The module whose output is that of ``path`` once no later module changes it in place any more.

    None where nothing changes it, or where no module returns it: what changed it then is no module of its own.
    """
    tensors = feature_tensors(trace.outputs[path])
    final = [tensor._version for tensor in tensors]
    if final == trace.versions[path]:
        return None
    for other, exits in sorted(trace.exited.items(), key=lambda item: item[1]):
        same = [a is b for a, b in zip(feature_tensors(trace.outputs[other]), tensors)]
        if (
            exits > trace.exited[path]
            and len(exits) == 1
            and same == [True] * len(tensors)
            and trace.versions[other] == final
        ):
            return other
    return None


def parameters_behind(tensors: Sequence[Tensor]) -> set[int]:
    """Identities of the parameters that ``tensors`` depend on."""
    return {id(node.variable) for node in nodes_behind(tensors) if hasattr(node, 'variable')}


def original_tensors(output) -> list[int]:
    """Places, among the tensors of a module's output, of those that are not made from another one of them.

    A Swin stage of mmdet returns its tokens and, made from them, the smaller ones that the next stage starts with. A block of TNT
    returns the tokens of an image after those inside each of its patches: parts of an image, counted as samples, are no feature.
    """
    tensors = feature_tensors(output)
    samples = min((len(tensor) for tensor in tensors if tensor.ndim > 1), default=0)
    places = [i for i, tensor in enumerate(tensors) if tensor.ndim < 2 or len(tensor) == samples]
    behind = [nodes_behind((tensor,)) for tensor in tensors]
    return [
        i
        for i in places
        if not any(j != i and tensors[j].grad_fn in behind[i] and tensors[i].grad_fn not in behind[j]
                   for j in places if tensors[j].grad_fn is not None)
    ]  # fmt: skip
