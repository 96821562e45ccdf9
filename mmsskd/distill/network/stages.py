"""Cutting a network into stages by running it once.

No architecture is known here. A *tap* is a module whose output is a stage's feature. One forward is watched: the order in which
modules run, and which parameters each tap's output depends on. Everything that first runs after the tap of stage k-1 and up to
the tap of stage k is stage k, so the stem is in stage 1; a parameter belongs to the first stage whose feature depends on it, which
gives parameters that a container holds itself (position embeddings, layer scale) to the module that uses them.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ...errors import ConfigError, candidates
from .tap import capture, feature_tensors, features_at
from .trace import Trace, image_resizers, original_tensors, parameters_behind, watch

MOST_STAGES = (
    4  # C2..C5 of the detection field: the last four resolutions; what runs before them is the stem of the first
)


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One stage of a network, by names so that it survives copies and BN conversion.

    Attributes:
        name: As the config says it, for instance ``layer1``.
        tap: Path of the module whose output is the stage's feature, for instance ``backbone.layer1``.
        parameters: Names of the parameters that belong to the stage.
        modules: Paths of the modules that belong to the stage (a container belongs to each stage that it holds modules of).
        levels: Which of the tensors that the tap returns are the feature.
        shapes: Shape of each tensor of the feature for one sample, without the batch dimension.
    """

    name: str
    tap: str
    parameters: tuple[str, ...]
    modules: tuple[str, ...]
    levels: tuple[int, ...]
    shapes: tuple[tuple[int, ...], ...]

    def feature(self, outputs: dict[str, tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
        """The stage's feature among the outputs of taps, see :func:`~mmsskd.distill.network.tap.features_at`."""
        return tuple(outputs[self.tap][level] for level in self.levels)


def taps_of(stages: Iterable[Stage]) -> list[str]:
    """The taps of ``stages``."""
    return [stage.tap for stage in stages]


def find_stages(
    model: nn.Module, names: list[str] | None, inputs: Tensor, key: str = 'stages', must_own: bool = True
) -> list[Stage]:
    """Cut ``model`` into stages.

    Args:
        model: Has ``backbone`` and ``extract_feat``; is left as it was found, buffers and random state included.
        names: Module paths in the order in which they run, ``layer1`` meaning ``backbone.layer1``. None: the resolution stages
            of the backbone, see :func:`resolution_stages`, and what a model names in ``extra_stages``, such as a neck that
            belongs to what is transferred.
        inputs: A batch that the model accepts, for instance (1, 3, 224, 224).
        key: The config key that holds ``names``, for messages.
        must_own: Every parameter of the backbone must belong to a stage. Not so for a teacher: nothing of it trains.

    Raises:
        ConfigError: Unknown name, wrong order, a tap that does not run exactly once or whose output a later layer changes in
            place, a stage without parameters, or backbone parameters that no feature depends on.
    """
    if not isinstance(getattr(model, 'backbone', None), nn.Module) or not hasattr(model, 'extract_feat'):
        raise ConfigError(
            f'{type(model).__name__} has no `backbone` with `extract_feat`; mmsskd distils models that have both'
        )
    training = {module: module.training for module in model.modules()}
    requires_grad = {parameter: parameter.requires_grad for parameter in model.parameters()}
    checkpointed = [module for module in model.modules() if getattr(module, 'with_cp', False)]
    try:
        with torch.random.fork_rng(devices=[]), torch.enable_grad():
            model.eval()
            for module in checkpointed:  # activation checkpointing hides parameters from the graph
                module.with_cp = False
            for parameter in requires_grad:
                parameter.requires_grad_(parameter.is_floating_point())
            trace = watch(model, inputs)
            names = [*resolution_stages(model, trace), *getattr(model, 'extra_stages', ())] if names is None else names
            taps = _order_taps(model, names, trace, key)
            _check_image_size(model, feature_tensors(trace.outputs[taps[0]]))
            stages = _assign(model, names, taps, trace, key, must_own)
            _check_truncation(model, stages, inputs)
    except ConfigError:
        raise
    except Exception as error:
        raise ConfigError(
            f'{type(model).__name__} does not run on an input of shape {tuple(inputs.shape)}: {error}\n'
            '  Set model.input_shape to (channels, height, width) of your images.'
        ) from error
    finally:
        for module, mode in training.items():
            module.training = mode
        for module in checkpointed:
            module.with_cp = True
        for parameter, flag in requires_grad.items():
            parameter.requires_grad_(flag)
    return stages


def resolution_stages(model: nn.Module, trace: Trace) -> list[str]:
    """The backbone's stages when none are named: where each of the last four resolutions ends, as paths in the backbone.

    Looked for among the backbone's children, where a ``ModuleList`` and a wrapper around a single running child count as what
    they hold. A resolution with a single convolution is part of a stem. A stage ends in the last block (two layers with weights
    or more) of its resolution; a lone convolution or norm behind the last block makes the feature the backbone's own output.
    """
    path, module = 'backbone', model.backbone
    while True:
        children = list(_running_children(path, module, trace))
        if len(children) != 1:
            break
        path, module = children[0]
    groups: dict[int, list[tuple[str, int]]] = {}
    for child, submodule in sorted(children, key=lambda item: trace.exited[item[0]][-1]):
        size = _resolution(trace.outputs[child])
        layers = sum(isinstance(layer, (nn.modules.conv._ConvNd, nn.Linear)) for layer in submodule.modules())
        if size is not None and layers:
            groups.setdefault(size, []).append((child, layers))
    ends = []
    for group in groups.values():
        if sum(layers for _, layers in group) > 1:
            blocks = [child for child, layers in group if layers > 1]
            ends.append((blocks or [child for child, _ in group])[-1])
    if not ends:
        raise ConfigError(f'no resolution stages found in {type(model.backbone).__name__}; name them in model.stages')
    return [path.removeprefix('backbone.') for path in ends[-MOST_STAGES:]]


def _running_children(path: str, module: nn.Module, trace: Trace):
    for name, child in module.named_children():
        child_path = f'{path}.{name}'
        if child_path in trace.exited:
            yield child_path, child
        else:
            yield from _running_children(child_path, child, trace)


def _resolution(output) -> int | None:
    """Number of places in a feature: H * W of a map, L of tokens, None for a vector."""
    tensors = [feature_tensors(output)[i] for i in original_tensors(output)]
    if not tensors or tensors[0].ndim not in (3, 4):
        return None
    return tensors[0].shape[-2:].numel() if tensors[0].ndim == 4 else tensors[0].shape[1]


def _order_taps(model: nn.Module, names: list[str], trace: Trace, key: str) -> list[str]:
    """Check the names and their order; returns the module paths."""
    if not isinstance(names, (list, tuple)) or not names or not all(isinstance(name, str) for name in names):
        raise ConfigError(f'model.{key} must be a list of module paths (None: the default stages), found {names!r}')
    paths, modules = [], dict(model.named_modules())
    for name in names:
        path = name if name in modules else f'backbone.{name}'
        if path not in modules or not name:
            known = [p.removeprefix('backbone.') for p in trace.exited if p.count('.') <= 2]
            raise ConfigError(f'model.{key}: {type(model).__name__} has no module {name!r}; {candidates(name, known)}')
        if len(trace.exited.get(path, ())) != 1:
            times = len(trace.exited.get(path, ()))
            raise ConfigError(
                f'model.{key}: {name!r} runs {times} times in a forward, a stage must end in one that runs once'
            )
        paths.append(path)
    ran = sorted(paths, key=lambda path: trace.exited[path])
    if ran != paths:
        order = [names[paths.index(path)] for path in ran]
        raise ConfigError(f'model.{key} are not in the order in which they run; found {list(names)}, write {order}')
    if len(set(paths)) != len(paths):
        raise ConfigError(f'model.{key} names a stage twice: {list(names)}')
    return paths


def _assign(model: nn.Module, names: list[str], taps: list[str], trace: Trace, key: str, must_own: bool) -> list[Stage]:
    """Give every parameter and module of the backbone, and of the named parts outside it, to a stage."""
    roots = ['backbone'] + [tap.split('.')[0] for tap in taps if tap.split('.')[0] != 'backbone']
    inside = {
        path: module
        for path, module in model.named_modules()
        if path.split('.')[0] in roots
    }  # fmt: skip
    last = max((i for i, tap in enumerate(taps) if tap.split('.')[0] == 'backbone'), default=None)
    if last is None:
        raise ConfigError(f'model.stages {list(names)}: at least one stage must be in the backbone')
    after_last = [
        path
        for path, module in inside.items()
        if path.startswith('backbone.')
        and trace.entered.get(path, 0) > trace.exited[taps[last]][0]
        and (list(module.parameters(recurse=False)) or list(module.buffers(recurse=False)))
    ]
    taps = [*taps[:last], 'backbone', *taps[last + 1 :]] if after_last else list(taps)

    outputs = [feature_tensors(trace.outputs[tap]) for tap in taps]
    left = {name: p for name, p in model.named_parameters() if name.split('.')[0] in roots and p.requires_grad}
    owner: dict[str, int] = {}
    levels: list[tuple[int, ...]] = []
    for k, (tap, tensors) in enumerate(zip(taps, outputs)):
        inner = tap.startswith('backbone.')
        chosen = original_tensors(trace.outputs[tap]) if inner else range(len(tensors))
        reached = {i: parameters_behind((tensors[i],)) for i in chosen}
        own = {name: p for name, p in left.items() if any(id(p) in behind for behind in reached.values())}
        owner.update(dict.fromkeys(own, k))
        left = {name: parameter for name, parameter in left.items() if name not in owner}
        # a level that nothing in this stage can change, such as a frozen stage's among the backbone's outputs, is not its feature
        identities = {id(parameter) for parameter in own.values()}
        levels.append(tuple(i for i in chosen if reached[i] & identities))
    if left and must_own:
        raise ConfigError(
            f'{len(left)} parameters belong to no stage, because no feature depends on them: {", ".join(list(left)[:8])}'
            f'{", ..." if len(left) > 8 else ""}. End the last stage in the layer that uses them (model.{key}), or remove them '
            'from the model config.'
        )

    ends = [trace.exited[tap][0] for tap in taps]
    modules: dict[str, set[int]] = {}
    for path, module in inside.items():
        own = {
            owner[f'{path}.{name}'] for name, _ in module.named_parameters(recurse=False) if f'{path}.{name}' in owner
        }
        runs_in = min(sum(end < trace.entered[path] for end in ends), len(ends) - 1) if path in trace.entered else None
        modules[path] = own or ({runs_in} if runs_in is not None else set())
    for path in sorted(inside, key=lambda path: -path.count('.')):  # a container belongs to each stage that it holds
        parent = path.rpartition('.')[0]
        if parent in modules and next(inside[parent].children(), None) is not None:
            modules[parent] = modules[parent] | modules[path]
    stages = []
    for k, (name, tap) in enumerate(zip(names, taps)):
        parameters = tuple(parameter for parameter, stage in owner.items() if stage == k)
        if not parameters:
            raise ConfigError(f'stage {name!r} has no parameters, nothing would train; leave it out of model.stages')
        stages.append(
            Stage(
                name=name,
                tap=tap,
                parameters=parameters,
                modules=tuple(path for path, owners in modules.items() if k in owners),
                levels=levels[k],
                shapes=tuple(tuple(outputs[k][level].shape[1:]) for level in levels[k]),
            )
        )
    return stages


def _check_image_size(model: nn.Module, feature: Sequence[Tensor]) -> None:
    """Refuse a model that resizes its image: the other network would look at another one."""
    resizers = image_resizers(feature)
    if resizers:
        raise ConfigError(
            f'{type(model).__name__} resizes the image inside its forward ({resizers[0]}), so teacher and student would not see '
            'the same one. Resize in the pipeline or in data_preprocessor.batch_augments, which both networks share.'
        )


@torch.no_grad()
def _check_truncation(model: nn.Module, stages: list[Stage], inputs: Tensor) -> None:
    """The feature of each stage must be the same, to the bit, whether or not the forward goes on after its tap."""
    with capture(model, [stage.tap for stage in stages]) as whole:
        model.extract_feat(inputs)
    for stage in stages:
        cut = features_at(model, inputs, [stage.tap])
        if not all(torch.equal(a, b) for a, b in zip(stage.feature(cut), stage.feature(whole), strict=True)):
            raise ConfigError(
                f'the output of stage {stage.name!r} ({stage.tap}) differs once the layers behind it have run: one of them '
                'changes it in place, or the forward is random. Set inplace=False there, or end the stage in that layer.'
            )
