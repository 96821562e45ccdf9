"""The teacher as training steps run it: frozen and in eval mode, it can be a cheaper network that computes the same.

Batch normalization becomes part of the convolution before it. Under autocast, weights that each step would cast are cast once:
autocast keeps the casts of what trains alone.
"""

import copy
import weakref
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import torch
from mmengine.logging import print_log
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ...errors import ConfigError, describe
from ...utils.states import random_states_kept
from .forward import features_at

Features = dict[str, tuple[Tensor, ...]]
# of these types themselves: others may do more in their forward
CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
TOLERANCE = 1e-4  # share by which features may differ; rounding makes 1e-6
MOST = 5  # copies that are made
MORE = 2  # times the error of autocast by which the copy may differ from float32


class StepTeacher:
    """Gives training steps a copy of the teacher that computes the same with less; the teacher itself stays as it is.

    The copy is made when a step first wants it, and made anew where the teacher has moved, has other weights, or autocast has
    another type. What is not folded or cast it shares with the teacher. It must give the teacher's features on noise; where it
    does not, or there is nothing to save, steps run the teacher, and one line of the log says why.

    Args:
        teacher: Frozen, in eval mode.
        taps: The modules whose outputs steps look at, and how often each runs.
        logits: One more such module, which is found in a forward of the whole model; None: there is none.
        fold: Whether there may be a copy. None: on a GPU.

    Example:
        >>> from types import SimpleNamespace
        >>> teacher = nn.Sequential(nn.Conv2d(3, 8, 1), nn.BatchNorm2d(8)).eval().requires_grad_(False)
        >>> teacher.extract_feat = teacher.forward
        >>> StepTeacher(teacher, {'1': 1}, fold=True)(torch.zeros(2, 3, 4, 4))[1]
        Identity()
    """

    def __init__(
        self, teacher: nn.Module, taps: Mapping[str, int], logits: str | None = None, fold: bool | None = None
    ):
        if fold not in (True, False, None):
            raise ConfigError(f'model.fold_teacher must be True, False, or None (on a GPU), found {fold!r}')
        self.teacher, self.taps, self.logits, self.fold = teacher, taps, logits, fold
        self.copy = teacher
        self.of: tuple | None = None  # what the copy was made of
        self.tensors: list[Tensor] = []  # of the teacher
        self.made = 0

    def __call__(self, inputs: Tensor) -> nn.Module:
        """The network to run on ``inputs``, a preprocessed batch, where the caller is: under autocast or not."""
        if self.fold is False or (self.fold is None and not inputs.is_cuda):
            return self.teacher
        if self.of is None or self.of != self._now(inputs):
            self.copy, self.tensors = self.teacher, [*self.teacher.parameters(), *self.teacher.buffers()]
            self.of = self._now(inputs)
            self.copy = self._make(inputs)
        return self.copy

    def __deepcopy__(self, memo: dict) -> 'StepTeacher':
        """Copies of the distiller share it, as they share the teacher."""
        return self

    def _now(self, inputs: Tensor) -> tuple:
        """Device and types, and how often weights and statistics have been changed in place; waits for no GPU."""
        first = next(self.teacher.parameters(), inputs)
        return inputs.device, _autocast(inputs), first.device, first.dtype, sum(each._version for each in self.tensors)

    @torch.no_grad()
    def _make(self, inputs: Tensor) -> nn.Module:
        """The copy; the teacher where there can be none, or nothing is saved."""
        self.made += 1
        try:
            if self.made > MOST:
                self.fold = False
                raise ConfigError('its weights, its device or the type of autocast change again and again')
            # of a fixed seed: all ranks decide alike
            noise = torch.randn(2, *inputs.shape[1:], generator=torch.Generator().manual_seed(0)).to(inputs)
            with random_states_kept(), _exact():
                network, said = self._folded(noise, _autocast(inputs))
        except Exception as error:
            network, said = self.teacher, f'runs as it is: {describe(error)}'
        if said:
            print_log(f'the teacher in training steps {said}', logger='current')
        return network

    def _folded(self, noise: Tensor, dtype: torch.dtype | None) -> tuple[nn.Module, str]:
        """The network for steps, tried on ``noise``, and what the log says of it."""
        with torch.autocast(noise.device.type, enabled=False):
            pairs, features = self._pairs(noise)
            shared: dict = {id(tensor): tensor for tensor in self.tensors}
            network = copy.deepcopy(self.teacher, shared)
            for convolution, norms in pairs:
                _fold(network, convolution, norms)
            error = _error(self._run(network, noise), features)
        if not error <= TOLERANCE:
            return (
                self.teacher,
                f'runs as it is: with its norms folded its features differ by {error:.1e} of their size',
            )
        count = sum(isinstance(module, NORMS) for module in self.teacher.modules())
        said = f'has {len(pairs)} of its {count} batch normalizations folded into convolutions'
        if dtype is None:
            return (network, said) if pairs else (self.teacher, '')
        with torch.autocast(noise.device.type, dtype):
            before = _error(self._run(self.teacher, noise), features)
            count = _cast(network, dtype, lambda: self._run(network, noise))
            error = _error(self._run(network, noise), features)
        kind = str(dtype).removeprefix('torch.')
        errors = f'its features differ from those in float32 by {error:.2%} of their size, under autocast alone by {before:.2%}'
        if not error <= MORE * before + TOLERANCE:
            return self.teacher, f'runs as it is: with norms folded and weights in {kind} {errors}'
        return (network, f'{said} and {count} weights in {kind}; {errors}') if pairs or count else (self.teacher, '')

    def _run(self, network: nn.Module, noise: Tensor) -> Features:
        return features_at(network, noise, self.taps, self.logits)

    def _pairs(self, noise: Tensor) -> tuple[list[tuple[str, list[str]]], Features]:
        """Each convolution with the paths of the norm that takes what it returns, which nothing else does; and the features.

        One forward of the teacher shows it: the norm runs once, and alone looks at an output of the convolution.
        """
        paths: dict[nn.Module, list[str]] = {}
        for path, module in self.teacher.named_modules(remove_duplicate=False):
            paths.setdefault(module, []).append(path)
        calls: Counter = Counter()
        uses, found, handles = _Uses(), {}, []

        def returned(module, args, output) -> None:
            uses.follow(output, module)

        def given(module, args) -> None:
            calls[module] += 1
            source = uses.source(args[0]) if args else None
            if source is not None:
                found[module] = source

        for module in paths:
            if _is_plain(module, CONVOLUTIONS):
                handles.append(module.register_forward_hook(returned))
            elif _is_plain(module, NORMS) and not module.training and module.running_mean is not None:
                handles.append(module.register_forward_pre_hook(given))
        try:
            with uses:
                features = self._run(self.teacher, noise)
        finally:
            for handle in handles:
                handle.remove()
        seen = {uses.source(tensor) for tensors in features.values() for tensor in tensors}
        pairs = [
            (paths[convolution][0], paths[norm])
            for norm, convolution in found.items()
            if calls[norm] == uses.count[convolution] == 1 and convolution not in seen
        ]
        return pairs, features


class _Uses(TorchDispatchMode):
    """Counts the operations that look at the outputs of modules."""

    def __init__(self) -> None:
        super().__init__()
        self.count: Counter = Counter()
        self.followed: dict[int, tuple[weakref.ref, nn.Module]] = {}

    def follow(self, tensor: Tensor, module: nn.Module) -> None:
        self.followed[id(tensor)] = weakref.ref(tensor), module

    def source(self, tensor) -> nn.Module | None:
        """The module that returned this very tensor."""
        reference, module = self.followed.get(id(tensor), (lambda: None, None))
        return module if reference() is tensor else None

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        for leaf in tree_leaves((args, kwargs or {})):
            if isinstance(leaf, Tensor):
                self.count[self.source(leaf)] += 1
        return function(*args, **(kwargs or {}))


class _Casts(TorchDispatchMode):
    """Notes which tensors are cast to ``dtype``, and which are used in another way."""

    def __init__(self, dtype: torch.dtype):
        super().__init__()
        self.dtype = dtype
        self.cast: set[int] = set()
        self.used: set[int] = set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if function is torch.ops.aten._to_copy.default and kwargs.get('dtype') == self.dtype:
            self.cast.add(id(args[0]))
        else:
            self.used |= {id(leaf) for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)}
        return function(*args, **kwargs)


def _cast(network: nn.Module, dtype: torch.dtype, run: Callable) -> int:
    """Replace the parameters of ``network`` that ``run()`` does nothing with but cast to ``dtype``; returns their number."""
    with _Casts(dtype) as casts:
        run()
    made: dict[int, nn.Parameter] = {}  # a parameter of several modules stays one
    for module in network.modules():
        for name, parameter in module._parameters.items():
            key = id(parameter)
            if parameter is not None and key in casts.cast - casts.used:
                if key not in made:
                    made[key] = nn.Parameter(parameter.to(dtype), requires_grad=False)
                module._parameters[name] = made[key]
    return len(made)


def _fold(network: nn.Module, convolution: str, norms: list[str]) -> None:
    """Give a convolution the weights that do the work of the norm after it, whose paths lead to an identity from now on."""
    layer: Any = network.get_submodule(convolution)
    norm: Any = network.get_submodule(norms[0])
    layer.weight, layer.bias = fuse_conv_bn_weights(
        layer.weight, layer.bias, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
    )
    identity = nn.Identity().eval()
    for path in norms:
        parent, _, name = path.rpartition('.')
        setattr(network.get_submodule(parent), name, identity)


def _is_plain(module: nn.Module, kinds: tuple[type, ...]) -> bool:
    """Whether a module is of one of these types in float32, and no hook and no function in the place of its forward changes it."""
    changed = module._forward_hooks or module._forward_pre_hooks or 'forward' in vars(module)
    floats = all(tensor.dtype == torch.float32 for tensor in module.parameters())
    return type(module) in kinds and not changed and floats


def _autocast(inputs: Tensor) -> torch.dtype | None:
    """The type to which autocast casts on the device of ``inputs``; None where it is off."""
    kind = inputs.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else None


def _exact():
    """A context in which convolutions on a GPU are of full precision, and the same algorithm each time."""
    enabled = torch.backends.cudnn.enabled
    return torch.backends.cudnn.flags(enabled=enabled, benchmark=False, deterministic=True, allow_tf32=False)


def _error(features: Features, reference: Features) -> float:
    """The largest difference among features, as a share of their size: the norm of the difference over that of the feature."""
    pairs = [(a.float(), b.float()) for path in reference for a, b in zip(features[path], reference[path], strict=True)]
    return torch.stack([(a - b).norm() / b.norm().clamp_min(1e-12) for a, b in pairs]).max().item()
