"""Cutting a network into stages by running it once.

No architecture is known here. A *tap* is a module whose output is a stage's feature. One forward is watched: the order in which
modules run, and which parameters each tap's output depends on. Everything that first runs after the tap of stage k-1 and up to
the tap of stage k is stage k, so the stem is in stage 1; a parameter belongs to the first stage whose feature depends on it, which
gives parameters that a container holds itself (position embeddings, layer scale) to the module that uses them.

A stage is named by its blocks. Where the backbone returns the feature of several stages, each through a norm of its own beside
the path to the next stage (Swin, ConvNeXt with several ``out_indices``), the tap is that norm: the feature is what the neck sees.

A stage can be one tensor of several that a module returns (``neck.1``, where there is no module of that path), and it can end in
a head that runs on the features alone. There a module runs once a level, and each call is a tensor of the feature.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from ...errors import ConfigError, candidates, some
from .forward import (
    DEFAULT_SHAPE,
    Trace,
    as_found,
    capture,
    changed_in_place_by,
    feature_tensors,
    features_at,
    image_resizers,
    nodes_behind,
    original_tensors,
    parameters_behind,
    run_heads,
    watch,
)
from .projector import PATH, InFront

# C2..C5 of the detection field: the last four resolutions; what runs before them is the stem of the first
MOST_STAGES = 4
# parameters that ViTs put in front of the patch tokens: of mmpretrain, timm, torchvision, transformers, DINOv3
EXTRA_TOKENS = (
    'cls_token', 'class_token', 'dist_token', 'distillation_token', 'reg_token', 'register_tokens', 'storage_tokens',
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Level:
    """One tensor of a stage's feature.

    Attributes:
        tensor: Its place among the tensors that the tap returns.
        tokens: First and last (exclusive) of the tokens (N, L, C) that it holds; None: all. A class token is a level apart from
            the patch tokens, so that neither is measured by the variance of the other.
        flat: Whether a map (N, C, H, W) is given as its places (N, H * W, C), because the other network gives tokens.
        order: Of the dimensions, where the tap returns maps as (N, H, W, C) (Swins of torchvision and timm) or tokens as
            (N, C, L) (MLP-Mixer); None: they are as they should be.
        shape: For one sample, without the batch dimension; of a map (C, H, W).
        behind: Names of the stage's parameters that it depends on.
    """

    tensor: int
    tokens: tuple[int, int] | None
    shape: tuple[int, ...]
    behind: frozenset[str]
    flat: bool = False
    order: tuple[int, ...] | None = None

    def of(self, tensors: Sequence[Tensor]) -> Tensor:
        """The level among the tensors of the tap."""
        tensor = tensors[self.tensor]
        if self.tokens is not None:
            tensor = tensor[:, slice(*self.tokens)]
        if self.order is not None:
            tensor = tensor.permute(self.order)
        return tensor.flatten(2).transpose(1, 2) if self.flat else tensor

    def put(self, tensors: list[Tensor], value: Tensor) -> None:
        """Put ``value`` in the place of the level among the tensors of the tap."""
        tensor = tensors[self.tensor]
        if self.flat:
            value = value.transpose(1, 2).unflatten(2, tensor.permute(self.order or (0, 1, 2, 3)).shape[2:])
        if self.order is not None:
            value = value.permute([self.order.index(k) for k in range(value.ndim)])
        if self.tokens is not None:
            first, last = self.tokens
            value = torch.cat([tensor[:, :first], value, tensor[:, last:]], dim=1)
        tensors[self.tensor] = value

    def flattened(self) -> 'Level':
        """The same map as tokens."""
        return replace(self, flat=True, shape=(self.shape[1] * self.shape[2], self.shape[0]))


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One stage of a network, by names so that it survives copies and BN conversion.

    Attributes:
        name: As the config says it, for instance ``layer1``.
        tap: Path of the module whose output is the stage's feature, for instance ``backbone.layer1``; not that of the name where
            the backbone returns the feature through a norm of its own (``backbone.norm0`` of the stage ``stages.0``).
        calls: How often the tap runs in a forward.
        parameters: Names of the parameters that belong to the stage.
        modules: Paths of the modules that belong to the stage (a container belongs to each stage that it holds modules of).
        levels: The tensors of the feature.
        beside: Whether the feature stands beside the path to the next stage, after a norm of its own.
        idle: Names of the backbone's parameters that nothing that the model gives depends on (known in its last stage): nobody
            trains them.
    """

    name: str
    tap: str
    parameters: tuple[str, ...]
    modules: tuple[str, ...]
    levels: tuple[Level, ...]
    calls: int = 1
    beside: bool = False
    idle: tuple[str, ...] = ()

    @property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        """Shape of each tensor of the feature for one sample, without the batch dimension."""
        return tuple(level.shape for level in self.levels)

    def feature(self, outputs: dict[str, tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
        """The stage's feature among the outputs of taps, see :func:`~mmsskd.distill.network.forward.features_at`."""
        return tuple(level.of(outputs[self.tap]) for level in self.levels)

    def with_levels(self, levels: Sequence[Level]) -> 'Stage':
        """The stage with these of its levels alone, without the parameters that only the others depend on."""
        kept = frozenset().union(*(level.behind for level in levels))
        gone = {name.rpartition('.')[0] for name in self.parameters if name not in kept}
        gone -= {name.rpartition('.')[0] for name in kept}
        return replace(
            self,
            levels=tuple(levels),
            parameters=tuple(name for name in self.parameters if name in kept),
            modules=tuple(path for path in self.modules if path not in gone),
        )


def taps_of(stages: Iterable[Stage]) -> dict[str, int]:
    """The taps of ``stages``, and how often each runs."""
    return {stage.tap: stage.calls for stage in stages}


def find_stages(
    model: nn.Module,
    names: Sequence[str] | None,
    inputs: Tensor,
    key: str = 'stages',
    must_own: bool = True,
    pooled: bool = True,
) -> list[Stage]:
    """Cut ``model`` into stages.

    Args:
        model: Has ``backbone`` and ``extract_feat``; is left as it was found, buffers and random state included.
        names: Module paths in the order in which they run, ``layer1`` meaning ``backbone.layer1``; ``neck.1`` means the second
            tensor that the neck returns. None: the resolution stages of the backbone, see :func:`resolution_stages`, and what a
            model names in ``extra_stages``, such as a neck that belongs to what is transferred.
        inputs: A batch that the model accepts, for instance (1, 3, 224, 224).
        key: The config key that holds ``names``, for messages.
        must_own: Every parameter of the backbone that the model's feature depends on must belong to a stage. Not so for a teacher:
            nothing of it trains.
        pooled: Whether the last stage may end after a pooling in the backbone (ConvNeXt's), else before it; what is after it is
            then the head's.

    Raises:
        ConfigError: Unknown name, wrong order, a tap that does not run exactly once or whose output a later layer changes in
            place, a stage without parameters, a forward without gradients, or backbone parameters that no feature depends on.
    """
    if not isinstance(getattr(model, 'backbone', None), nn.Module) or not hasattr(model, 'extract_feat'):
        raise ConfigError(
            f'{type(model).__name__} has no `backbone` with `extract_feat`; mmsskd distils models that have both'
        )
    try:
        with as_found(model):
            ends = None if names is None else _find_ends(model, names, key)
            trace = watch(model, inputs, () if ends is None else [end.path for end in ends])
            if not any(tensor.requires_grad for tensor in feature_tensors(trace.feature)):
                raise ConfigError(
                    f'the {"student" if must_own else "teacher"}, {type(model).__name__}, computes its feature without gradients '
                    '(torch.no_grad or detach in its forward), so nobody sees which layers it depends on; leave that '
                    'out, it runs without gradients where none are needed'
                )
            if ends is None:
                names = [*resolution_stages(model, trace, inputs), *getattr(model, 'extra_stages', ())]
                ends = _find_ends(model, names, key)
            _check_ends(ends, trace, key)
            _check_image_size(model, feature_tensors(trace.outputs[ends[0].path]))
            stages = _assign(model, ends, trace, key, must_own, pooled and not _classifies(model, trace))
            if isinstance(getattr(model, 'neck', None), InFront):
                stages[-1] = _with_projector(model, stages[-1], trace)
            _check_truncation(model, stages, inputs, trace)
    except ConfigError:
        raise
    except Exception as error:
        raise ConfigError(_does_not_run(model, inputs, error, 'student' if must_own else 'teacher')) from error
    return stages


def _does_not_run(model: nn.Module, inputs: Tensor, error: Exception, who: str) -> str:
    """The message about a forward that failed: the size of the image is the reason only where it can be."""
    message = f'{type(model).__name__} does not run on an input of shape {tuple(inputs.shape)}: {type(error).__name__}: {error}\n  '
    first = next((layer for layer in model.backbone.modules() if isinstance(layer, nn.modules.conv._ConvNd)), None)
    if first is not None and first.in_channels != inputs.shape[1]:
        channels = first.in_channels
        return (
            f'{message}Set model.input_shape to ({channels}, height, width): its first layer takes {channels} channels.'
        )
    if tuple(inputs.shape[1:]) == DEFAULT_SHAPE:
        return f'{message}Set model.input_shape to (channels, height, width) of your images.'
    return (
        f'{message}model.input_shape is set to {tuple(inputs.shape[1:])}. If your images are of that size, the mistake is in '
        f'model.{who}: it must run on them.'
    )


def resolution_stages(model: nn.Module, trace: Trace, inputs: Tensor) -> list[str]:
    """The backbone's stages when none are named: where each of the last four resolutions ends, as paths in the backbone.

    Looked for among the backbone's children, where a ``ModuleList`` and a wrapper around a single running child count as what
    they hold, and so does the only block of a backbone that classifies (``features`` before ``avgpool`` and ``classifier``). A
    resolution with a single convolution is part of a stem. A stage ends in the last block (two layers with weights or more) of
    its resolution, or in the norm through which the next one sees that block; a lone convolution or norm after the
    last block makes the feature the backbone's own output. A network of a single resolution, such as a ViT, is cut by depth, see
    :func:`_depths`. Where an activation changes the feature in place, the stage ends in the activation.
    """
    backbone = model.get_submodule('backbone')
    path, module = 'backbone', backbone
    while True:
        children = list(_running_children(path, module, trace))
        if len(children) != 1 and _classifies(model, trace):
            blocks = [
                (child, each)
                for child, each in children
                if _count_layers(each) > 1 and _resolution(backbone, trace.outputs[child], trace.image)
            ]
            children = blocks if len(blocks) == 1 else children
        if len(children) != 1:
            break
        path, module = children[0]
    children.sort(key=lambda item: trace.exited[item[0]][-1])
    groups: dict[int, list[tuple[str, int]]] = {}
    for child, submodule in children:
        size, layers = _resolution(backbone, trace.outputs[child], trace.image), _count_layers(submodule)
        if size is not None and layers:
            groups.setdefault(size, []).append((child, layers))
    stages = [
        [child for child, layers in group if layers > 1] or [child for child, _ in group]
        for group in groups.values()
        if sum(layers for _, layers in group) > 1
    ]
    if not stages:
        raise ConfigError(f'no resolution stages found in {type(model.backbone).__name__}; name them in model.stages')
    ends = [blocks[-1] for blocks in stages[-MOST_STAGES:]] if len(stages) > 1 else _depths(model, stages[0], trace)
    order = [child for child, _ in children]
    for i, following in enumerate(ends[1:]):
        ends[i] = _norm_between(model, order[order.index(ends[i]) : order.index(following)], following, trace)
    return [_past_activation(model, end, trace, inputs).removeprefix('backbone.') for end in ends]


def _classifies(model: nn.Module, trace: Trace) -> bool:
    """Whether the backbone goes on to scores: the model says so, or the head has no weights and gets vectors (mmpretrain's VGG)."""
    if hasattr(model, 'classifies_in_backbone'):
        return bool(model.classifies_in_backbone)
    head, output = getattr(model, 'head', None), feature_tensors(trace.outputs.get('backbone', ()))
    return isinstance(head, nn.Module) and not list(head.parameters()) and all(each.ndim == 2 for each in output)


def _depths(model: nn.Module, blocks: list[str], trace: Trace) -> list[str]:
    """The last blocks of the stages of a network whose ``blocks`` all have one resolution.

    Those on which the features depend that the backbone returns, where it is configured to return those of several blocks
    (``out_indices``); else a quarter, a half, three quarters, and all of the blocks.
    """
    owns = [{id(parameter) for parameter in model.get_submodule(block).parameters()} for block in blocks]
    behind = [parameters_behind((tensor,)) for tensor in feature_tensors(trace.outputs.get('backbone', ()))]
    returned = {max((i for i, own in enumerate(owns) if own & reached), default=0) for reached in behind}
    quarters = {-(-len(blocks) * k // MOST_STAGES) - 1 for k in range(1, MOST_STAGES + 1)}
    return [blocks[i] for i in sorted(returned if len(returned) > 1 else quarters)]


def _norm_between(model: nn.Module, path: Sequence[str], following: str, trace: Trace) -> str:
    """The last norm of the resolution of ``path[0]``, a block, that the feature of ``following`` depends on; else the block.

    A norm that only the backbone's own output passes (Swin's) is not on the way, see :func:`_side_norm`.
    """
    backbone = model.get_submodule('backbone')
    end, size = path[0], _resolution(backbone, trace.outputs[path[0]], trace.image)
    norms = [
        child
        for child in path[1:]
        if not _count_layers(model.get_submodule(child))
        and _resolution(backbone, trace.outputs[child], trace.image) == size
    ]
    if any(True for child in norms for _ in model.get_submodule(child).parameters()):
        behind = parameters_behind(feature_tensors(trace.outputs[following]))
        for child in norms:
            if any(id(parameter) in behind for parameter in model.get_submodule(child).parameters()):
                end = child
    return end


def _past_activation(model: nn.Module, end: str, trace: Trace, inputs: Tensor) -> str:
    """The activation that changes the output of ``end`` in place, or ``end`` where none does."""
    activation = changed_in_place_by(trace, end)
    if activation is None:
        return end
    # an empty image may have no negative values
    noise = torch.randn(inputs.shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad(), capture(model, [end]) as whole:
        before = features_at(model, noise, [end])[end]
        model.extract_feat(noise)
    return end if all(map(torch.equal, before, whole[end])) else activation  # a second ReLU changes nothing


def _count_layers(module: nn.Module) -> int:
    return sum(isinstance(layer, (nn.modules.conv._ConvNd, nn.Linear)) for layer in module.modules())


def _running_children(path: str, module: nn.Module, trace: Trace):
    for name, child in module.named_children():
        child_path = f'{path}.{name}'
        if child_path in trace.exited:
            yield child_path, child
        else:
            yield from _running_children(child_path, child, trace)


def _resolution(backbone: nn.Module, output, image: tuple[int, ...]) -> int | None:
    """Number of places in a feature: H * W of a map, L of tokens without the class tokens, None for a vector."""
    tensors = _original(output)
    if not tensors or tensors[0].ndim not in (3, 4):
        return None
    shape = tensors[0].shape[1:]
    if len(shape) == 3:
        return math.prod(shape[:2] if _is_channels_last(shape, image) else shape[1:])
    extra = any(name.rpartition('.')[2] in EXTRA_TOKENS for name, _ in backbone.named_parameters())
    return shape[0] - (_extra_tokens(backbone, parameters_behind(tensors[:1])) if extra else 0)


def _is_channels_last(shape: Sequence[int], image: tuple[int, ...]) -> bool:
    """Whether a map of ``shape`` is (H, W, C): these two have the proportions of the image, and the last two have not."""

    def fits(height, width):
        return min(abs(height - width * image[0] / image[1]), abs(width - height * image[1] / image[0])) <= 1

    return fits(*shape[:2]) and not fits(*shape[1:])


def _is_channels_first(shape: Sequence[int], backbone: nn.Module, reached: set[int]) -> bool:
    """Whether tokens of ``shape`` are (C, L): the norms that they went through are as wide as the first, and none as the second."""
    norms = (layer for layer in backbone.modules() if 'Norm' in type(layer).__name__)
    widths = {p.numel() for layer in norms for p in layer.parameters(recurse=False) if id(p) in reached}
    return shape[0] in widths and shape[1] not in widths


@dataclass(frozen=True)
class _End:
    """The module in which a stage ends, by its path in the model, and which one of its tensors is the feature; None: all."""

    name: str
    path: str
    tensor: int | None = None


def _find_ends(model: nn.Module, names: Sequence[str], key: str) -> list[_End]:
    """The modules that the names of stages mean."""
    if not isinstance(names, (list, tuple)) or not names or not all(isinstance(name, str) for name in names):
        raise ConfigError(f'model.{key} must be a list of module paths (None: the default stages), found {names!r}')
    paths = [path for path, _ in model.named_modules()]
    return [_find_end(model, name, paths, key) for name in names]


def _find_end(model: nn.Module, name: str, paths: Sequence[str], key: str) -> _End:
    holder, _, number = name.rpartition('.')
    for path in (name, f'backbone.{name}'):
        if name and path in paths:
            return _End(name, path)
    for path in (holder, f'backbone.{holder}'):
        if number.isdecimal() and path in paths and f'{path}.0' not in paths:  # of a list, the number would be an item
            return _End(name, path, int(number))
    known = [path.removeprefix('backbone.') for path in paths if path and path.count('.') <= 2]
    raise ConfigError(f'model.{key}: {type(model).__name__} has no module {name!r}; {candidates(name, known)}')


def _check_ends(ends: Sequence[_End], trace: Trace, key: str) -> None:
    """Check that the modules run, how often, and in which order."""
    names = [end.name for end in ends]
    for end in ends:
        times, count = len(trace.exited.get(end.path, ())), len(feature_tensors(trace.outputs.get(end.path)))
        if times != 1 and not (times and end.path.split('.')[0] in trace.heads):
            raise ConfigError(
                f'model.{key}: {end.name!r} runs {times} times in a forward, a stage must end in one that runs once'
            )
        if end.tensor is not None and end.tensor >= count:
            raise ConfigError(
                f'model.{key}: {end.name!r} is not there: {end.path!r} gives {count} tensors, 0 to {count - 1}'
            )
    ran = sorted(ends, key=lambda end: trace.exited[end.path])
    if ran != list(ends):
        raise ConfigError(
            f'model.{key} are not in the order in which they run; found {names}, write {[end.name for end in ran]}'
        )
    if len({(end.path, end.tensor) for end in ends}) != len(ends):
        raise ConfigError(f'model.{key} names a stage twice: {names}')


def _assign(
    model: nn.Module, ends: Sequence[_End], trace: Trace, key: str, must_own: bool, pooled: bool
) -> list[Stage]:
    """Give every parameter and module of the backbone to a stage, and of the named parts outside it those that one depends on.

    What the backbone runs after the last stage, where that does not end in what is ``pooled``, is the head's.
    """
    names, taps = [end.name for end in ends], [end.path for end in ends]
    backbone = model.get_submodule('backbone')
    used = parameters_behind([tensor for tap in taps for tensor in feature_tensors(trace.outputs[tap])])
    roots = {'backbone', *(tap.split('.')[0] for tap in taps)}
    roots |= {name.split('.')[0] for name, parameter in model.named_parameters() if id(parameter) in used}
    inside = {path: module for path, module in model.named_modules() if path.split('.')[0] in roots}
    # where the paths to the next stages go on: a norm beside them may run much later
    exits = [trace.exited[tap][-1] for tap in taps]
    last = max((i for i, tap in enumerate(taps) if tap.split('.')[0] == 'backbone'), default=-1)
    last_block, blocks = taps[last], list(taps)
    if last >= 0:
        after_last = [
            path
            for path, module in inside.items()
            if path.startswith('backbone.')
            and trace.entered.get(path, 0) > exits[last]
            and (list(module.parameters(recurse=False)) or list(module.buffers(recurse=False)))
        ]
        taps = [_side_norm(taps[k : last + 1], trace, pooled) if k < last else tap for k, tap in enumerate(taps)]
        if after_last:
            taps[last] = _end_of_backbone(model, taps[last], after_last, trace, pooled)
            exits[last] = trace.exited[taps[last]][0]

    outputs = [feature_tensors(trace.outputs[tap]) for tap in taps]
    left = {name: p for name, p in model.named_parameters() if name.split('.')[0] in roots and p.requires_grad}
    owner: dict[str, int] = {}
    levels: list[tuple[Level, ...]] = []
    for k, (tap, tensors) in enumerate(zip(taps, outputs)):
        inner = tap.startswith('backbone.')
        chosen: Sequence[int] = original_tensors(trace.outputs[tap]) if inner else range(len(tensors))
        chosen = chosen if ends[k].tensor is None else [ends[k].tensor]
        reached = {i: parameters_behind((tensors[i],)) for i in chosen}
        own = {name: p for name, p in left.items() if any(id(p) in behind for behind in reached.values())}
        owner.update(dict.fromkeys(own, k))
        left = {name: parameter for name, parameter in left.items() if name not in owner}
        if k == last and tap == 'backbone' != last_block:
            chosen = _outputs_of(last_block, chosen, own, reached, trace)
        # a level that nothing in this stage can change, such as a frozen stage's among the backbone's outputs, is not its feature
        behind = {i: frozenset(name for name, p in own.items() if id(p) in reached[i]) for i in chosen}
        found = (_levels(i, tensors[i], behind[i], reached[i], backbone, trace.image) for i in chosen if behind[i])
        levels.append(tuple(level for each in found for level in each))
    used = parameters_behind(feature_tensors(trace.feature))
    idle = [name for name, p in left.items() if name.startswith('backbone.') and id(p) not in used]
    bare = [name for name in left if name.startswith('backbone.') and name not in idle]
    if not pooled:
        bare = [name for name in bare if _has_places(trace.outputs.get(name.rpartition('.')[0], ()))]
    if bare and must_own:
        raise ConfigError(
            f'{len(bare)} parameters belong to no stage, because no feature depends on them: {some(bare, 8)}. '
            f'{_how_to_own(names, bare, trace, key)}'
        )

    modules: dict[str, set[int]] = {}
    for path, module in inside.items():
        held = [f'{path}.{name}' for name, _ in module.named_parameters(recurse=False)]
        holds = {owner[name] for name in held if name in owner}
        inner = path.split('.')[0] == 'backbone'
        around = holds or (set() if inner else _owners_around(path, owner, left))
        if len(around) == 1 or (inner and held):
            modules[path] = around - {None}
        elif around and next(module.children(), None) is not None:
            modules[path] = holds  # and what it holds
        else:
            runs_in = sum(end < trace.entered[path] for end in exits) if path in trace.entered else None
            if runs_in == len(exits):  # after the last tap: in a head, the head's own
                runs_in = None if path.split('.')[0] in trace.heads or (inner and not pooled) else runs_in - 1
            modules[path] = holds or ({runs_in} - {None})
    for path in sorted(inside, key=lambda path: -path.count('.')):  # a container belongs to each stage that it holds
        parent = path.rpartition('.')[0]
        if parent in modules and next(inside[parent].children(), None) is not None:
            modules[parent] = modules[parent] | modules[path]
    stages = []
    for k, (name, tap) in enumerate(zip(names, taps)):
        parameters = tuple(parameter for parameter, stage in owner.items() if stage == k)
        if not parameters:
            raise ConfigError(f'stage {name!r} has no parameters, nothing would train; remove it from model.stages')
        stages.append(
            Stage(
                name=name,
                tap=tap,
                parameters=parameters,
                modules=tuple(path for path, owners in modules.items() if k in owners),
                levels=levels[k],
                calls=len(trace.exited[tap]),
                beside=k < last and tap != blocks[k],
                idle=tuple(idle) if k == len(names) - 1 else (),
            )
        )
    return stages


def _with_projector(model: nn.Module, stage: Stage, trace: Trace) -> Stage:
    """The last stage of a student whose neck projects its feature: what is projected is its feature."""
    projector = model.get_submodule(PATH)
    parameters = (*stage.parameters, *(f'{PATH}.{name}' for name, _ in projector.named_parameters()))
    tensors = feature_tensors(trace.outputs[PATH])
    return replace(
        stage,
        tap=PATH,
        parameters=parameters,
        modules=(*stage.modules, *(f'{PATH}.{path}'.rstrip('.') for path, _ in projector.named_modules())),
        levels=tuple(
            Level(tensor=i, tokens=None, shape=tuple(tensor.shape[1:]), behind=frozenset(parameters))
            for i, tensor in enumerate(tensors)
        ),
    )


def _owners_around(path: str, owner: dict[str, int], left: Iterable[str]) -> set[int | None]:
    """The stages of the parameters in the innermost module at or above ``path`` that has some; None for those of no stage."""
    while path:
        owners = {owner.get(name) for name in (*owner, *left) if name.startswith(f'{path}.')}
        if owners:
            return owners
        path = path.rpartition('.')[0]
    return {None}


def _how_to_own(names: Sequence[str], left: Iterable[str], trace: Trace, key: str) -> str:
    """Advise what to do about parameters of no stage: end the last one in the module that has them all, where one runs."""
    holders = {name.rpartition('.')[0] for name in left}
    ran = [
        path
        for path, exits in trace.exited.items()
        if len(exits) == 1 and path != 'backbone' and all(f'{holder}.'.startswith(f'{path}.') for holder in holders)
    ]
    if ran:
        last = min(ran, key=len).removeprefix('backbone.')
        return f'End the last stage in the layer that uses them: model.{key}={[*names[:-1], last]}.'
    return f'End the last stage in the layer that uses them (model.{key}), or remove them from the model config if none does.'


def _outputs_of(
    block: str, chosen: Sequence[int], own: Mapping[str, Tensor], reached: dict[int, set[int]], trace: Trace
) -> Sequence[int]:
    """Those of the backbone's outputs ``chosen`` that go on from ``block``; all where only others need a parameter of ``own``.

    An output of the stage before can depend on ``own`` too: by a norm on the path from that stage's block to ``block``.
    """
    tensors, feature = feature_tensors(trace.outputs['backbone']), _original(trace.outputs[block])
    through = [i for i in chosen if any(each.grad_fn in nodes_behind((tensors[i],)) for each in feature)]
    return through if all(any(id(p) in reached[i] for i in through) for p in own.values()) else chosen


def _side_norm(taps: Sequence[str], trace: Trace, pooled: bool) -> str:
    """The tap of a stage that is not the last: the norm through which the backbone returns its feature, else ``taps[0]``.

    That is the last module with which an output of the backbone goes on from the feature of ``taps[0]`` alone, by parameters that
    no feature of the following stages, ``taps[1:]``, depends on. What an output inside a backbone's own FPN passes belongs to
    several stages, and a norm on the path to the next stage to that one. Behind a pooling it counts only where ``pooled``.
    """
    feature, *following = (_original(trace.outputs[tap]) for tap in taps)
    before = nodes_behind(feature)
    sides = []
    for i, output in enumerate(feature_tensors(trace.outputs.get('backbone', ()))):
        nodes = nodes_behind((output,))
        reaches = [[tensor.grad_fn in nodes for tensor in tensors] for tensors in (feature, *following)]
        if not all(reaches[0]) or any(map(any, reaches[1:])) or not (pooled or output.shape[2:].numel() > 1):
            continue
        beside = parameters_behind((output,)) - parameters_behind(feature)
        if beside and not any(beside & parameters_behind(tensors) for tensors in following):
            sides.append((len(beside), i, beside, nodes - before))
    if not sides:
        return taps[0]
    _, _, beside, nodes = max(sides, key=lambda side: side[:2])
    norms = [
        path
        for path, exits in trace.exited.items()
        if path.startswith('backbone.') and len(exits) == 1 and _is_made_by(trace.outputs[path], nodes)
    ]
    norm = max(norms, key=lambda path: trace.exited[path], default=None)
    return norm if norm and beside <= parameters_behind(feature_tensors(trace.outputs[norm])) else taps[0]


def _has_places(output) -> bool:
    """Whether a module's output is a map or tokens of more than one place."""
    return any(
        each.shape[1:-1].numel() > 1 if each.ndim == 3 else each.shape[2:].numel() > 1
        for each in feature_tensors(output)
    )


def _is_made_by(output, nodes: set) -> bool:
    """Whether all tensors of a module's output are made by ``nodes`` of the graph."""
    tensors = feature_tensors(output)
    return bool(tensors) and all(tensor.grad_fn in nodes for tensor in tensors)


def _original(output) -> list[Tensor]:
    """The tensors of a module's output that are not made from another one of them."""
    tensors = feature_tensors(output)
    return [tensors[i] for i in original_tensors(output)]


def _end_of_backbone(model: nn.Module, tap: str, after: Sequence[str], trace: Trace, pooled: bool) -> str:
    """The tap of the last stage where modules with weights, ``after``, follow ``tap``: mostly the backbone's own output.

    Where that is only a vector, made of tokens by choosing or averaging, it is the norm that still has the places. Where what is
    ``pooled`` (or are scores) is not to be the feature, it is such a norm or ``tap`` itself.
    """
    before, output = ([tensor.shape for tensor in _original(trace.outputs[path])] for path in (tap, 'backbone'))
    # Conformer's last norm has but one of two branches before it
    behind = parameters_behind(feature_tensors(trace.outputs[tap]))
    norms = [
        path
        for path in after
        if len(trace.exited[path]) == 1
        and [tensor.shape for tensor in feature_tensors(trace.outputs[path])] == before
        and behind <= parameters_behind(feature_tensors(trace.outputs[path]))
    ]
    if pooled:
        if not all(len(shape) == 2 for shape in output) or len(before[0]) != 3:
            return 'backbone'
        last = max(after, key=lambda path: trace.exited[path])
        return last if last in norms else 'backbone'
    lone = not any(_count_layers(model.get_submodule(path)) for path in after)  # nothing but norms follows
    gone = all(len(shape) == 2 or (lone and shape[2:].numel() == 1 < before[0][2:].numel()) for shape in output)
    return max(norms, key=lambda path: trace.exited[path], default=tap) if gone else 'backbone'


def _extra_tokens(backbone: nn.Module, reached: set[int]) -> int:
    """Count the class and register tokens in front of the patch tokens of a tensor that depends on the parameters ``reached``."""
    count: Any = getattr(backbone, 'num_extra_tokens', None)  # of mmpretrain
    if count is not None:
        return count if id(getattr(backbone, 'cls_token', None)) in reached else 0
    return sum(
        parameter.numel() // parameter.shape[-1]
        for name, parameter in backbone.named_parameters()
        if name.rpartition('.')[2] in EXTRA_TOKENS and id(parameter) in reached
    )


def _levels(
    i: int, tensor: Tensor, behind: frozenset[str], reached: set[int], backbone: nn.Module, image: tuple[int, ...]
) -> list[Level]:
    """The levels of the feature that are in the tap's tensor ``i``: patch tokens, then each of the class tokens."""
    order: tuple[int, ...] | None = None
    if tensor.ndim == 4 and _is_channels_last(tensor.shape[1:], image):
        order = (0, 3, 1, 2)
    elif tensor.ndim == 3 and _is_channels_first(tensor.shape[1:], backbone, reached):
        order = (0, 2, 1)
    extra = _extra_tokens(backbone, reached)
    if order is not None or tensor.ndim != 3 or not 0 < extra < tensor.shape[1]:
        shape = (tensor if order is None else tensor.permute(order)).shape[1:]
        return [Level(tensor=i, tokens=None, shape=tuple(shape), behind=behind, order=order)]
    count, width = tensor.shape[1:]
    return [
        Level(tensor=i, tokens=(first, last), shape=(last - first, width), behind=behind)
        for first, last in [(extra, count), *((k, k + 1) for k in range(extra))]
    ]


def _check_image_size(model: nn.Module, feature: Sequence[Tensor]) -> None:
    """Refuse a model that resizes its image: the other network would look at another one."""
    resizers = image_resizers(feature)
    if resizers:
        raise ConfigError(
            f'{type(model).__name__} resizes the image inside its forward ({resizers[0]}), so teacher and student would not see '
            'the same one. Resize in the pipeline or in data_preprocessor.batch_augments, which both networks share.'
        )


@torch.no_grad()
def _check_truncation(model: nn.Module, stages: list[Stage], inputs: Tensor, trace: Trace) -> None:
    """The feature of each stage must be the same, to the bit, whether or not the forward goes on after its tap."""
    with capture(model, taps_of(stages)) as whole:
        run_heads(model, model.extract_feat(inputs), trace.heads)
    for stage in stages:
        cut = features_at(model, inputs, taps_of([stage]))
        if not all(torch.equal(a, b) for a, b in zip(stage.feature(cut), stage.feature(whole), strict=True)):
            layer = changed_in_place_by(trace, stage.tap)
            name = f', {layer.removeprefix("backbone.")!r}' if layer else ''
            raise ConfigError(
                f'the output of stage {stage.name!r} ({stage.tap}) differs once the layers after it have run: one of them '
                f'changes it in place, or the forward is random. Set inplace=False there, or end the stage in that layer{name}.'
            )
