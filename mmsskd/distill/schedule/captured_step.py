"""Captured steps: a phase's whole step as one CUDA graph, which costs one launch where Python launches hundreds of kernels.

A graph does again what the GPU did while it was recorded, at the same addresses, and nothing that Python does. So what changes
from step to step is put into tensors that stay where they are: the batch and the learning rates. What the GPU finds out is read
one step late, as in unwaited_step.py.
"""

import pickle
import warnings
from collections.abc import Callable

import torch
from mmengine.optim import OptimWrapper
from mmengine.runner import Runner
from mmengine.structures import BaseDataElement
from torch import Tensor, nn

from ...errors import ConfigError, describe
from ...utils.states import random_states
from ..distiller import StagewiseDistiller
from ..phases import Phase
from .unwaited_step import UnwaitedSteps

WARM_UP = 3  # steps of one kind before it is recorded: kernels are chosen and the optimizer's state is made meanwhile
PATIENCE = 20  # steps in succession that no graph fits
CHANGES = 3  # of the kind of step in a phase


class CudaGraph:
    """Work that a function gives the GPU, recorded once and done again at each replay.

    Args:
        beside: A graph whose memory this one may use; they are never replayed at the same time.
    """

    stream: torch.cuda.Stream | None = None
    drawn_once = ('python', 'numpy', 'torch')  # random numbers of which a graph keeps those of its recording

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


class CapturedSteps(UnwaitedSteps):
    """The steps of one phase, recorded after a few, replayed from then on.

    What a batch of another size needs, as the last one of an epoch has, is done as without graphs. Where nothing can be
    recorded all steps are, and one line of the log says why.

    Args:
        runner, distiller, phase: The phase is set.
        position: Which phase it is, for the log.
    """

    graph = CudaGraph

    def __init__(self, runner: Runner, distiller: StagewiseDistiller, phase: Phase, position: str):
        super().__init__(runner, distiller, phase)
        self.logger, self.position = runner.logger, position
        self.graphs: dict[bool, tuple[CudaGraph, list[str], Tensor]] = {}  # with and without what is only logged
        self.batch: StaticBatch | None = None
        self.kind: dict | None = None  # of the steps that the graphs fit
        self.places: tuple = ()
        self.next_kind: dict | None = None
        # with and without what is only logged: made once, so that a recording loads no kernel
        self.tried: set[bool] = set()
        self.next_tried: set[bool] = set()
        self.count = self.missed = self.changes = 0
        self.plain = False

    def _give_up(self, reason: str) -> None:
        self.plain = True
        self._forget(changed=False)
        self.logger.warning(f'cuda_graph: {self.position} runs without: {reason}')

    def _step(self, data: dict, wrapper: OptimWrapper) -> tuple[list[str], Tensor]:
        """Make one step on a preprocessed batch; returns names and values of what is logged."""
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
            if self.count < WARM_UP:
                return self.graph.aside(step)
            before = random_states()
            result, where = self.graph.watch(step)
            after = random_states()
            drawn = [kind for kind in self.graph.drawn_once if pickle.dumps(before[kind]) != pickle.dumps(after[kind])]
            if where:
                self._give_up(f'a step reads a value from the GPU in {where}')
            elif drawn:
                self._give_up(f'a step draws random numbers on the CPU ({drawn[0]}), which a graph would draw once')
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
            self.next_tried = self.next_tried if kind == last else set()
            self.next_kind = kind
            self.missed += 1
            if self.count > WARM_UP:
                last, self.kind, self.tried = self.kind, kind, self.next_tried
                self._forget(changed=last is not None)
        elif self.graphs and self.places != places:
            self._forget(changed=True)
        if self.changes > CHANGES or self.missed > PATIENCE:
            self._give_up(f'{_difference(kind, last)} change again and again')
        if self.plain:
            return False
        logged = self.distiller.measures_agreement
        if kind != self.kind:
            self.next_tried.add(logged)
            return False
        self.count = self.missed = 0
        tried = logged in self.tried
        self.tried.add(logged)
        return tried

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
                    'the StageScheduleHook, or remove the CapturedStepsHook'
                ) from error
            self.graphs[key] = graph, *result
            self.places = self.optimizer.places()
        graph, names, values = self.graphs[key]
        self.batch.fill(data)
        graph.replay()
        return names, values.clone()  # before the next replay overwrites them


def cannot_capture(runner: Runner, distiller: nn.Module) -> str | None:
    """The reason why no phase of a run can be captured; None where they can."""
    if runner.distributed:
        return 'the run has several processes'
    if not CapturedSteps.graph.runs_on(next(distiller.parameters()).device):
        return 'there is no GPU'
    saving = [name for name, module in distiller.named_modules() if getattr(module, 'with_cp', False) is True]
    if runner.cfg.get('activation_checkpointing') or saving:
        return f'activations are computed again in the backward pass ({saving[0] if saving else "activation_checkpointing"})'
    return None


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
