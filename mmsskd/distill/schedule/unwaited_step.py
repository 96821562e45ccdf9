"""Steps that never wait for the GPU: forward, backward and update are launched, and Python goes on.

Whether an update is made depends on the losses, which only the GPU knows by then. So the GPU decides: once a loss is not finite,
the optimizer changes nothing any more, and the run ends one step later, when the losses have reached the log.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from mmengine.model import BaseModel
from mmengine.optim import AmpOptimWrapper, OptimWrapper
from mmengine.runner import Runner
from torch import Tensor
from torch.optim import SGD, Adam, AdamW, Optimizer

from ..distiller import StagewiseDistiller
from ..losses import StepValues
from ..phases import Phase
from .mmengine_private import copy_without_waiting

FUSED = (SGD, Adam, AdamW)  # whose fused kernels read the learning rate, and whether to step, from the GPU


def send_without_waiting(preprocessor: Any) -> None:
    """Let a data preprocessor send batches to the GPU while Python goes on; a copy that waits does so for all that was launched."""
    copy_without_waiting(preprocessor)
    preprocessor.register_forward_pre_hook(_send_labels)


def _send_labels(preprocessor: Any, args: tuple) -> None:
    """Send the class labels of a batch in one piece. mmpretrain's preprocessor does that too, and waits."""
    samples = args[0].get('data_samples') if isinstance(args[0], dict) else None
    if preprocessor.device.type == 'cpu' or not isinstance(samples, (list, tuple)):
        return
    labels = [getattr(sample, 'gt_label', None) for sample in samples]
    if labels and all(isinstance(label, Tensor) and label.device.type == 'cpu' for label in labels):
        sent = torch.cat(labels).to(preprocessor.device, non_blocking=True)
        for sample, label in zip(samples, sent.split([len(label) for label in labels]), strict=True):
            sample.set_gt_label(label)


class OnGpu(dict):
    """Losses of a step, on the GPU. It gives no items: MMEngine would read each, and wait; the log gets them one step later."""

    def items(self):
        return ().__iter__()


class LateValues:
    """Values of steps that the GPU may still be making; they reach the log in the order of the steps.

    Args:
        runner: Its message hub gets them.
        distiller: Its ``on_non_finite`` gets as text those that must be finite, and the iteration, from 1, where one is not.
    """

    def __init__(self, runner: Runner, distiller: StagewiseDistiller):
        self.runner, self.distiller = runner, distiller
        self.waiting: deque[tuple[int, StepValues]] = deque()

    def add(self, names: list[str], values: Tensor, finite: Sequence[str]) -> None:
        """Start to copy the values of the step that was launched last; ``finite`` names those that must be."""
        self.waiting.append((self.runner.iter + 1, StepValues(names, values, finite)))

    def read(self, leave: int = 0) -> None:
        """Give the log all but the last ``leave`` steps; waits for the GPU to have made them."""
        while len(self.waiting) > leave:
            iteration, step = self.waiting.popleft()
            failure = step.failure()
            if failure is not None:
                self.waiting.clear()
                self.distiller.on_non_finite(failure, iteration)
            for name, value in step.read().items():
                self.runner.message_hub.update_scalar(f'train/{name}', value)


class GuardedOptimizer:
    """An optimizer whose step the GPU can leave out: the fused one, with its learning rates in tensors.

    Schedulers, logs and checkpoints see the groups as they always are.

    Args:
        optimizer: One of ``FUSED``; its state may be loaded from a checkpoint.
        device: Where its parameters are.
    """

    def __init__(self, optimizer: Optimizer, device: torch.device):
        self.optimizer: Any = optimizer
        self.rates = [torch.zeros((), device=device) for _ in optimizer.param_groups]
        self.filled = [None] * len(self.rates)
        self.failed = torch.zeros((), device=device)  # 1 from the first loss on that is not finite
        for parameter, state in optimizer.state.items():
            if 'step' in state:  # Adam counts on the CPU, where it is not fused
                state['step'] = torch.as_tensor(state['step'], dtype=torch.float32).to(parameter.device)
        for group in optimizer.param_groups:
            # torch leaves them unset until the first step, and so in the checkpoint of a first loss that is not finite
            if group.get('momentum') and not group['dampening']:
                for parameter in group['params']:
                    state = optimizer.state[parameter]
                    if state.get('momentum_buffer') is None:
                        state['momentum_buffer'] = torch.zeros_like(parameter)

    def fill(self) -> None:
        """Take over the learning rates that the schedulers have set."""
        for i, group in enumerate(self.optimizer.param_groups):
            if self.filled[i] != group['lr']:
                self.rates[i].fill_(group['lr'])
                self.filled[i] = group['lr']

    def check(self, value: Tensor) -> None:
        """Change nothing from now on if ``value``, a scalar, is not finite."""
        self.failed.copy_(torch.maximum(self.failed, (~value.detach().isfinite()).float()))

    @contextmanager
    def within(self) -> Iterator[None]:
        """Within this context a step is one that the GPU can leave out, and that a graph can hold."""
        groups = self.optimizer.param_groups
        kept = [dict(group) for group in groups]
        recording = torch.cuda.is_available() and torch.cuda.is_current_stream_capturing()  # otherwise torch warns
        for group, rate in zip(groups, self.rates, strict=True):
            capturable = {'capturable': recording} if 'capturable' in group else {}
            group.update(lr=rate, fused=True, foreach=False, **capturable)
        self.optimizer.found_inf = self.failed  # as GradScaler does
        try:
            yield
        finally:
            del self.optimizer.found_inf
            for group, each in zip(groups, kept, strict=True):
                group.update(each)

    def numbers(self) -> tuple:
        """Options that are numbers in a graph: momentum, weight decay and all else but the learning rate."""
        rates = ('params', 'lr', 'initial_lr')
        return tuple(
            (key, value) for group in self.optimizer.param_groups for key, value in group.items() if key not in rates
        )

    def places(self) -> tuple[int, ...]:
        """Addresses of the parameters and of their state."""
        parameters = [parameter for group in self.optimizer.param_groups for parameter in group['params']]
        states = [
            value
            for parameter in parameters
            for value in self.optimizer.state[parameter].values()
            if isinstance(value, Tensor)
        ]
        return tuple(tensor.data_ptr() for tensor in (*parameters, *states))


class UnwaitedSteps:
    """The steps of one phase, none of which waits for the GPU. Where that cannot be they are made as always.

    Args:
        runner, distiller, phase: The phase is set.
    """

    def __init__(self, runner: Runner, distiller: StagewiseDistiller, phase: Phase):
        self.distiller = distiller
        self.accumulates = phase.optim_wrapper.get('accumulative_counts', 1) > 1
        self.late = LateValues(runner, distiller)
        self.optimizer: GuardedOptimizer | None = None

    @staticmethod
    def runs_on(device: torch.device) -> bool:
        """Whether there is something to wait for."""
        return device.type == 'cuda'

    def __call__(self, data: dict, wrapper: OptimWrapper) -> dict:
        """Train on a batch as the data loader gives it; returns its losses."""
        model = self.distiller
        if self.optimizer is None:
            reason = self._unguarded(wrapper)
            if reason:
                self._give_up(reason)
                model.steps = None
                return type(model).train_step(model, data, wrapper)
            self.optimizer = GuardedOptimizer(wrapper.optimizer, next(model.parameters()).device)
        with wrapper.optim_context(model):
            data = model.data_preprocessor(data, True)
        samples = data.get('data_samples') if model.looks_at_samples else None
        self.optimizer.fill()
        names, values = self._step(dict(inputs=data['inputs'], data_samples=samples), wrapper)
        self.late.add(names, values, ['loss', *([wrapper.grad_name] if _must_be_finite(wrapper) else [])])
        self.late.read(leave=0 if model.measures_agreement else 1)
        return OnGpu(zip(names, values, strict=True))

    def _unguarded(self, wrapper: OptimWrapper) -> str | None:
        """The reason why the GPU cannot leave out the updates of a phase; None where it can."""
        if self.accumulates:
            return 'gradients are accumulated over several batches (accumulative_counts)'
        if isinstance(wrapper, AmpOptimWrapper) and wrapper.loss_scaler.is_enabled():
            return (
                "the scale of the loss is looked at in each step; bfloat16 needs none: optim_wrapper=dict(dtype='bfloat16', "
                'loss_scale=dict(enabled=False), ...)'
            )
        if type(wrapper) not in (OptimWrapper, AmpOptimWrapper):
            return f'the optim_wrapper is a {type(wrapper).__name__}; OptimWrapper and AmpOptimWrapper are known'
        if type(wrapper.optimizer) not in FUSED:
            known = ', '.join(kind.__name__ for kind in FUSED)
            return f'the optimizer is {type(wrapper.optimizer).__name__}; those that can be recorded are {known}'
        return None

    def _give_up(self, reason: str) -> None:
        """Note that the steps are made as always; nobody has asked for others."""

    def _step(self, data: dict, wrapper: OptimWrapper) -> tuple[list[str], Tensor]:
        """Make one step on a preprocessed batch; returns names and values of what is logged."""
        return self._work(data, wrapper)

    def _work(self, data: dict, wrapper: OptimWrapper) -> tuple[list[str], Tensor]:
        """The work of a step: nothing in it depends on a value."""
        model, optimizer = self.distiller, self.optimizer
        with optimizer.within(), _norm_kept(wrapper, optimizer) as norms:
            with wrapper.optim_context(model):
                losses = model(**data, mode='loss')
            loss, values = BaseModel.parse_losses(model, losses)
            optimizer.check(loss)
            wrapper.update_params(loss)
        values.update(norms)
        return list(values), torch.stack([value.detach() for value in values.values()])


def _must_be_finite(wrapper: OptimWrapper) -> bool:
    """Whether the config wants the run to end where the norm of gradients is not finite."""
    return bool((wrapper.clip_grad_kwargs or {}).get('error_if_nonfinite'))


@contextmanager
def _norm_kept(wrapper: OptimWrapper, optimizer: GuardedOptimizer):
    """Within this context a norm by which gradients are clipped is kept as a tensor; MMEngine reads it for the log.

    Torch reads it where it must be finite; here the optimizer checks it, as it does a loss.
    """
    norms: dict[str, Tensor] = {}
    if not wrapper.clip_grad_kwargs:
        yield norms
        return
    clip, must_be_finite = wrapper.clip_func, _must_be_finite(wrapper)

    def clip_func(parameters, *, error_if_nonfinite: bool = False, **options) -> None:
        norm = clip(parameters, **options)
        if norm is not None:
            norms[wrapper.grad_name] = norm
            if must_be_finite:
                optimizer.check(norm)

    wrapper.clip_func = clip_func
    try:
        yield norms
    finally:
        wrapper.clip_func = clip
