"""The best weights of a phase, by what is measured of its stages on the validation set."""

import math

import torch
from torch import Tensor

from .distiller import StagewiseDistiller


class BestWeights:
    """Remembers what a phase trains as it was when it was best, and puts it back (https://arxiv.org/abs/1911.06786).

    Best is the lowest sum of the relative errors of the mimicked stages. Kept on the CPU, and in each checkpoint within the phase,
    so that a resumed run goes on comparing with it. All ranks measure the same, so all remember the same.

    Attributes:
        state: None, or the error, the epoch or iteration after which it was measured, and the weights by name.
    """

    def __init__(self, state: dict | None = None):
        self.state = state

    def offer(self, distiller: StagewiseDistiller, values: dict[str, float], step: int) -> None:
        """Remember the weights as they are, if ``values`` of the validation after ``step`` are better than any before."""
        error = sum(value for key, value in values.items() if key.startswith('val/relative_error_'))
        if math.isfinite(error) and (self.state is None or error < self.state['error']):
            weights = {name: value.detach().cpu().clone() for name, value in trained_state(distiller).items()}
            self.state = dict(error=error, step=step, weights=weights)

    @torch.no_grad()
    def reload(self, distiller: StagewiseDistiller) -> str:
        """Put the best weights back and forget them; returns what was done, for the log."""
        best, self.state = self.state, None
        if best is None:
            return 'no finite validation error in this phase, so it ends with its last weights'
        for name, value in trained_state(distiller).items():
            value.copy_(best['weights'][name])
        return f'ends with the weights after {best["step"]}, whose error is the lowest: {best["error"]:.4f}'


def trained_state(distiller: StagewiseDistiller) -> dict[str, Tensor]:
    """What the current phase changes, by name: the parameters that train and the buffers of their modules."""
    state = {name: parameter for name, parameter in distiller.named_parameters() if parameter.requires_grad}
    for path, module in distiller.training_modules().items():
        state |= {f'{path}.{name}': buffer for name, buffer in module.named_buffers(recurse=False)}
    return state
