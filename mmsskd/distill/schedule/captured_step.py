"""Captured steps: a phase's whole step as one CUDA graph, which costs one launch where Python launches hundreds of kernels.

A graph does again what the GPU did while it was recorded, at the same addresses, and nothing that Python does. So what changes
from step to step is put into tensors that stay where they are: the batch and the learning rates. What the GPU finds out is read
one step late, so that no step waits for it. Once a loss is not finite, the optimizer changes nothing any more.
"""

import warnings
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from mmengine.model import BaseModel
from mmengine.optim import AmpOptimWrapper, OptimWrapper
from mmengine.runner import Runner
from mmengine.structures import BaseDataElement
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW, Optimizer

from ...errors import ConfigError, describe
from ..distiller import StagewiseDistiller
from ..losses import StepValues
from ..phases import Phase

WARM_UP = 3  # steps of one kind before it is recorded: kernels are chosen and the optimizer's state is made meanwhile
PATIENCE = 20  # steps in succession that no graph fits
CHANGES = 3  # of the kind of step in a phase
FUSED = (SGD, Adam, AdamW)  # whose fused kernels read the learning rate, and whether to step, from the GPU


class CudaGraph:
    """Work that a function gives the GPU, recorded once and done again at each replay.

    Args:
        beside: A graph whose memory this one may use; they are never replayed at the same time.
    """

    stream: torch.cuda.Stream | None = None

    def __init__(self, beside: 'CudaGraph | None' = None):
        self.graph = torch.cuda.CUDAGraph()
        self.pool = beside.graph.pool() if beside else None

    @staticmethod
    def runs_on(device: torch.device) -> bool:
        """Whether this device can replay graphs."""
        return device.type == 'cuda'

    @classmethod
    def aside(cls, step: Callable):
        """Run ``step`` on the stream on which graphs are recorded: what autograd keeps of a stream must be of that one."""
        cls.stream = cls.stream or torch.cuda.Stream()
        cls.stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(cls.stream):
            result = step()
        torch.cuda.current_stream().wait_stream(cls.stream)
        return result

    @classmethod
    def watch(cls, step: Callable) -> tuple:
        """Run ``step`` aside; returns what it returns, and where it waited for the GPU, None where it did not."""
        mode = torch.cuda.get_sync_debug_mode()
        try:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter('always')
                torch.cuda.set_sync_debug_mode('warn')
                result = cls.aside(step)
        finally:
            torch.cuda.set_sync_debug_mode(mode)
        waits = [each for each in caught if 'synchronizing CUDA operation' in str(each.message)]
        return result, f'{waits[0].filename}:{waits[0].lineno}' if waits else None

    def record(self, step: Callable):
        """Record ``step`` without doing its work; returns what it returns, whose tensors each replay fills."""
        before = torch.cuda.current_stream()
        try:
            # other threads, such as one that pins batches, may go on meanwhile
            only = 'thread_local'
            with torch.cuda.graph(self.graph, pool=self.pool, stream=self.stream, capture_error_mode=only):
                return step()
        finally:
            torch.cuda.set_stream(before)  # which a recording that fails leaves behind

    def replay(self) -> None:
        """Do the work."""
        self.graph.replay()


class OnGpu(dict):
    """Losses of a step, on the GPU. It gives no items: MMEngine would read each, and wait; the log gets them one step later."""

    def items(self):
        return ().__iter__()


class LateValues:
    """Values of steps that the GPU may still be making; they reach the log in the order of the steps.

    Args:
        runner: Its message hub gets them.
        distiller: Its ``on_non_finite`` gets the losses as text and the iteration, from 1, where their sum is not finite.
    """

    def __init__(self, runner: Runner, distiller: StagewiseDistiller):
        self.runner, self.distiller = runner, distiller
        self.waiting: deque[tuple[int, StepValues]] = deque()

    def add(self, names: list[str], values: Tensor) -> None:
        """Start to copy the values of the step that was launched last."""
        self.waiting.append((self.runner.iter + 1, StepValues(names, values)))

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


class GraphOptimizer:
    """An optimizer of which a graph can hold the step: the fused one, with its learning rates in tensors.

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

    def fill(self) -> None:
        """Take over the learning rates that the schedulers have set."""
        for i, group in enumerate(self.optimizer.param_groups):
            if self.filled[i] != group['lr']:
                self.rates[i].fill_(group['lr'])
                self.filled[i] = group['lr']

    @contextmanager
    def within(self) -> Iterator[None]:
        """Within this context a step is one that a graph can hold."""
        groups = self.optimizer.param_groups
        kept = [dict(group) for group in groups]
        for group, rate in zip(groups, self.rates, strict=True):
            group.update(lr=rate, fused=True, foreach=False, **({'capturable': True} if 'capturable' in group else {}))
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
            value for parameter in parameters for value in self.optimizer.state[parameter].values() if _is_tensor(value)
        ]
        return tuple(tensor.data_ptr() for tensor in (*parameters, *states))


class StaticBatch:
    """A batch whose tensors stay where they are.

    Args:
        data: A preprocessed batch: ``inputs``, and ``data_samples`` that hold tensors alone, or None.
    """

    def __init__(self, data: dict):
        samples = data['data_samples'] and [sample.clone() for sample in data['data_samples']]
        for sample in samples or ():
            for key, value in sample.items():
                sample.set_field(value.clone(), key)
        self.data = dict(inputs=data['inputs'].clone(), data_samples=samples)

    def fill(self, data: dict) -> None:
        """Take over another batch of the same kind."""
        self.data['inputs'].copy_(data['inputs'])
        labels, others = ([value for _, value in _labels(each)] for each in (self.data, data))
        if labels:
            torch._foreach_copy_(labels, others)  # in one kernel


class CapturedSteps:
    """The steps of one phase, recorded after a few, replayed from then on.

    What a batch of another size needs, as the last one of an epoch has, is done as without graphs. Where nothing can be
    recorded all steps are, and one line of the log says why.

    Args:
        runner, distiller, phase: The phase is set.
        position: Which phase it is, for the log.
    """

    graph = CudaGraph

    def __init__(self, runner: Runner, distiller: StagewiseDistiller, phase: Phase, position: str):
        self.logger, self.distiller, self.position = runner.logger, distiller, position
        self.accumulates = phase.optim_wrapper.get('accumulative_counts', 1) > 1
        self.late = LateValues(runner, distiller)
        self.optimizer: GraphOptimizer | None = None
        self.graphs: dict[bool, tuple[CudaGraph, list[str], Tensor]] = {}  # with and without what is only logged
        self.batch: StaticBatch | None = None
        self.kind: dict | None = None  # of the steps that the graphs fit
        self.places: tuple = ()
        self.next_kind: dict | None = None
        self.tried: set[bool] = set()
        self.count = self.missed = self.changes = 0
        self.plain = False

    def __call__(self, data: dict, wrapper: OptimWrapper) -> dict:
        """Train on a batch as the data loader gives it; returns its losses."""
        model = self.distiller
        if self.optimizer is None and not self.plain:
            self._start(wrapper)
        if self.optimizer is None:
            return BaseModel.train_step(model, data, wrapper)
        with wrapper.optim_context(model):
            data = model.data_preprocessor(data, True)
        samples = data.get('data_samples') if model.looks_at_samples else None
        data = dict(inputs=data['inputs'], data_samples=samples)
        self.optimizer.fill()
        names, values = self._step(data, wrapper)
        values = values.clone()
        self.late.add(names, values)
        self.late.read(leave=0 if model.measures_agreement else 1)
        return OnGpu(zip(names, values, strict=True))

    def _start(self, wrapper: OptimWrapper) -> None:
        """Take over the optimizer of the phase, or say why not."""
        reason = None
        if self.accumulates:
            reason = 'gradients are accumulated over several batches (accumulative_counts)'
        elif isinstance(wrapper, AmpOptimWrapper) and wrapper.loss_scaler.is_enabled():
            reason = (
                "the scale of the loss is looked at in each step; bfloat16 needs none: optim_wrapper=dict(dtype='bfloat16', "
                'loss_scale=dict(enabled=False), ...)'
            )
        elif type(wrapper) not in (OptimWrapper, AmpOptimWrapper):
            reason = f'the optim_wrapper is a {type(wrapper).__name__}; OptimWrapper and AmpOptimWrapper are known'
        elif type(wrapper.optimizer) not in FUSED:
            known = ', '.join(kind.__name__ for kind in FUSED)
            reason = f'the optimizer is {type(wrapper.optimizer).__name__}; those that can be recorded are {known}'
        if reason:
            self._give_up(reason)
        else:
            self.optimizer = GraphOptimizer(wrapper.optimizer, next(self.distiller.parameters()).device)

    def _give_up(self, reason: str) -> None:
        self.plain = True
        self._forget(changed=False)
        self.logger.warning(f'cuda_graph: {self.position} runs without: {reason}')

    def _step(self, data: dict, wrapper: OptimWrapper) -> tuple[list[str], Tensor]:
        """Make one step; returns names and values of what is logged."""
        step = lambda: self._work(data, wrapper)  # noqa: E731
        if self.plain:
            return step()
        reason = _unknown(data)
        if reason:
            self._give_up(reason)
            return step()
        if not self._fits(data):
            if self.plain:
                return step()
            self.tried.add(self.distiller.measures_agreement)
            if self.count < WARM_UP:
                return self.graph.aside(step)
            result, where = self.graph.watch(step)
            if where:
                self._give_up(f'a step reads a value from the GPU in {where}')
            return result
        return self._replay(data, wrapper)

    def _fits(self, data: dict) -> bool:
        """Whether a step on ``data`` can be replayed, or recorded first."""
        kind = dict(
            shapes=(data['inputs'].shape, data['inputs'].dtype, [(k, v.shape) for k, v in _labels(data)]),
            options=self.optimizer.numbers(),
        )
        last, places = self.next_kind, self.optimizer.places()
        if kind != self.kind:
            self.count = self.count + 1 if kind == last else 1
            self.next_kind = kind
            self.missed += 1
            if self.count > WARM_UP:
                last, self.kind = self.kind, kind
                self._forget(changed=last is not None)
        elif self.graphs and self.places != places:
            self._forget(changed=True)
        if self.changes > CHANGES or self.missed > PATIENCE:
            self._give_up(f'{_difference(kind, last)} change again and again')
        if self.plain or kind != self.kind:
            return False
        self.count = self.missed = 0
        return self.distiller.measures_agreement in self.tried  # its kernels are loaded

    def _forget(self, changed: bool) -> None:
        """Drop what was recorded; ``changed``: it has fitted steps before."""
        self.graphs.clear()
        self.batch = None
        self.changes += changed

    def _replay(self, data: dict, wrapper: OptimWrapper) -> tuple[list[str], Tensor]:
        """Make a step by a graph, which is recorded where there is none."""
        key = self.distiller.measures_agreement
        if self.batch is None:
            self.batch = StaticBatch(data)
        if key not in self.graphs:
            graph = self.graph(next((graph for graph, *_ in self.graphs.values()), None))
            static = self.batch.data
            try:
                result = graph.record(lambda: self._work(static, wrapper))
            except Exception as error:
                raise ConfigError(
                    f'{self.position}: its step cannot be recorded as a CUDA graph ({describe(error)}). Set cuda_graph=False in '
                    'the StageScheduleHook'
                ) from error
            self.graphs[key] = graph, *result
            self.places = self.optimizer.places()
        graph, names, values = self.graphs[key]
        self.batch.fill(data)
        graph.replay()
        return names, values

    def _work(self, data: dict, wrapper: OptimWrapper) -> tuple[list[str], Tensor]:
        """The work of a step on a preprocessed batch: nothing in it depends on a value."""
        model, optimizer = self.distiller, self.optimizer
        with optimizer.within(), _norm_kept(wrapper) as norms:
            with wrapper.optim_context(model):
                losses = model(**data, mode='loss')
            loss, values = BaseModel.parse_losses(model, losses)
            optimizer.failed.copy_(torch.maximum(optimizer.failed, (~loss.detach().isfinite()).float()))
            wrapper.update_params(loss)
        values.update(norms)
        return list(values), torch.stack([value.detach() for value in values.values()])


def cannot_capture(runner: Runner, distiller: nn.Module) -> str | None:
    """The reason why no phase of a run can be captured; None where they can."""
    if not CapturedSteps.graph.runs_on(next(distiller.parameters()).device):
        return 'there is no GPU'
    if runner.distributed:
        return 'the run has several processes'
    saving = [name for name, module in distiller.named_modules() if getattr(module, 'with_cp', False) is True]
    if runner.cfg.get('activation_checkpointing') or saving:
        return f'activations are computed again in the backward pass ({saving[0] if saving else "activation_checkpointing"})'
    return None


@contextmanager
def _norm_kept(wrapper: OptimWrapper):
    """Within this context a norm by which gradients are clipped is kept as a tensor; MMEngine reads it for the log."""
    norms: dict[str, Tensor] = {}
    if not wrapper.clip_grad_kwargs:
        yield norms
        return
    clip = wrapper.clip_func

    def clip_func(*args, **kwargs) -> None:
        norm = clip(*args, **kwargs)
        if norm is not None:
            norms[wrapper.grad_name] = norm

    wrapper.clip_func = clip_func
    try:
        yield norms
    finally:
        wrapper.clip_func = clip


def _is_tensor(value) -> bool:
    return isinstance(value, Tensor)


def _labels(data: dict) -> list[tuple[str, Tensor]]:
    """Names and tensors of the data samples of a batch."""
    return [item for sample in data['data_samples'] or () for item in sample.items()]


def _difference(kind: dict, last: dict) -> str:
    """Name what is different between two kinds of steps."""
    if kind['shapes'] != last['shapes']:
        return f'the shapes of a batch (now {tuple(kind["shapes"][0])}, before {tuple(last["shapes"][0])})'
    options = {key for (key, value), (_, other) in zip(kind['options'], last['options']) if value != other}
    return f'options of the optimizer ({", ".join(sorted(options))})' if options else 'the tensors of the optimizer'


def _unknown(data: dict) -> str | None:
    """The reason why a batch cannot be copied to where a graph reads it; None where it can."""
    if not _is_tensor(data['inputs']):
        return f'the images are a {type(data["inputs"]).__name__}, not one tensor'
    for key, value in _labels(data):
        if isinstance(value, BaseDataElement):
            return f'the number of boxes changes from image to image ({key})'
        if not _is_tensor(value):
            return f'the labels hold a {type(value).__name__} ({key}), not only tensors'
    return None
