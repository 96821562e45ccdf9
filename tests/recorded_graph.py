"""A stand-in for a CUDA graph that needs no GPU: all that Python decides is decided once, as there."""

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

READS = ('aten::_local_scalar_dense', 'aten::is_nonzero', 'aten::nonzero', 'aten::equal')


def _tensors(tree) -> list[torch.Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, torch.Tensor)]


def _address(tensor) -> int:
    return tensor.untyped_storage().data_ptr()


class _Watching(TorchDispatchMode):
    """Notes which operations read a value."""

    def __init__(self):
        super().__init__()
        self.reads = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function._schema.name in READS:
            self.reads.append(function._schema.name)
        return function(*args, **(kwargs or {}))


class _Recording(TorchDispatchMode):
    """Keeps every operation with the very tensors that it took and gave, and undoes what it did."""

    def __init__(self):
        super().__init__()
        self.calls, self.made, self.before = [], set(), {}

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function._schema.name in READS:
            raise RuntimeError(f'operation not permitted when stream is capturing: {function}')
        args, kwargs = tree_map(lambda leaf: leaf, (args, kwargs or {}))  # the caller may change its lists
        taken = {_address(tensor): tensor for tensor in _tensors((args, kwargs))}
        for address, tensor in taken.items():
            if address not in self.made and address not in self.before:
                self.before[address] = tensor.untyped_storage(), tensor.untyped_storage().clone()
        result = function(*args, **kwargs)
        self.made |= {_address(tensor) for tensor in _tensors(result)} - set(self.before)
        self.calls.append((function, args, kwargs, result))
        return result

    def undo(self) -> None:
        for storage, values in self.before.values():
            storage.copy_(values)


class RecordedGraph:
    """Takes the place of ``mmsskd.distill.schedule.captured_step.CudaGraph``; counts what is done with all of them."""

    recorded = replayed = 0
    drawn_once = ('python', 'numpy')  # what torch draws on a CPU, a GPU draws on a GPU

    def __init__(self, beside=None):
        self.calls = []

    @staticmethod
    def runs_on(device) -> bool:
        return True

    @staticmethod
    def aside(step):
        return step()

    @staticmethod
    def watch(step):
        with _Watching() as watching:
            result = step()
        return result, watching.reads[0] if watching.reads else None

    def record(self, step):
        with _Recording() as recording:
            result = step()
        recording.undo()
        self.calls = recording.calls
        RecordedGraph.recorded += 1
        return result

    @torch.no_grad()
    def replay(self) -> None:
        for function, args, kwargs, result in self.calls:
            for old, new in zip(_tensors(result), _tensors(function(*args, **kwargs)), strict=True):
                if _address(old) != _address(new):
                    old.copy_(new)
        RecordedGraph.replayed += 1
