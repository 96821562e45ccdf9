"""Losses of a step on their way from the GPU to the log."""

import math

import torch
from torch import Tensor


class StepValues:
    """The values of a step, copied from the GPU when it comes to it. Nothing waits for that before :meth:`read`.

    Args:
        names: Of the values; one is ``'loss'``, the sum.
        values: (N,), on any device.

    Example:
        >>> values = StepValues(['loss', 'loss_cls', 'accuracy'], torch.tensor([float('nan'), float('nan'), 0.5]))
        >>> values.failure()
        'loss=nan, loss_cls=nan'
    """

    def __init__(self, names: list[str], values: Tensor):
        self.names, self.values = names, values.to('cpu', non_blocking=True)  # into pinned memory
        self.copied = torch.cuda.Event() if values.is_cuda else None
        if self.copied is not None:
            self.copied.record()

    def read(self) -> dict[str, float]:
        """The values by name; waits for the GPU to have made the step so far."""
        if self.copied is not None:
            self.copied.synchronize()
        return dict(zip(self.names, self.values.tolist(), strict=True))

    def failure(self) -> str | None:
        """The losses as text where their sum is not finite, else None; waits as :meth:`read` does."""
        values = self.read()
        if math.isfinite(values['loss']):
            return None
        return ', '.join(f'{name}={value:.4g}' for name, value in values.items() if 'loss' in name)
