"""The one loss of a transfer phase, and the two numbers that say how well a stage is learnt."""

from collections.abc import Sequence

import torch
from mmengine.dist import all_reduce, get_world_size
from torch import Tensor, nn

from ..errors import ConfigError
from ..registry import MODELS


@MODELS.register_module()
class FeatureMimicLoss(nn.Module):
    r"""Plain L2 between a student's and a teacher's feature (SSKD, https://arxiv.org/abs/1812.01819), scale-free by default.

    With s, t the features, :math:`\mu_c` the teacher's mean of channel c over batch and places,

    - ``normalize='variance'``: :math:`\sum (s - t)^2 / \sum (t - \mu_c)^2`, the share of the teacher feature's variance that
      the student leaves unexplained: 1 for a student that outputs the channel means, 0 for a perfect copy. The scale of the
      features cancels, so one learning rate serves all stages, networks and tasks.
    - ``normalize='channel'``: :math:`\mathrm{mean}_c [\sum (s_c - t_c)^2 / \sum (t_c - \mu_c)^2]`, the same channel by channel,
      so that each counts alike, however small its variance; one below a hundredth of the mean variance, such as a channel
      that a ReLU keeps at 0, is measured by that.
    - ``normalize='none'``: :math:`\mathrm{mean} (s - t)^2` over all elements, the raw loss of the paper.

    Computed in float32 outside autocast (raw feature L2 in half precision is known not to converge:
    https://arxiv.org/abs/1809.05262, section 4). Under DDP the variance is that of the global batch, so that the gradient equals
    that of one process with the same batch. A feature of several tensors (an FPN) counts as the mean over its tensors.

    Args:
        normalize: ``'variance'``, ``'channel'`` or ``'none'``.
        loss_weight: Factor on the loss. Only matters beside other losses; stage by stage has none to balance.
    """

    def __init__(self, normalize: str = 'variance', loss_weight: float = 1.0):
        super().__init__()
        if normalize not in ('variance', 'channel', 'none'):
            raise ConfigError(
                f"FeatureMimicLoss.normalize must be 'variance', 'channel' or 'none', found {normalize!r}"
            )
        self.normalize = normalize
        self.loss_weight = loss_weight

    def forward(self, student: Sequence[Tensor], teacher: Sequence[Tensor]) -> Tensor:
        """Compare two features.

        Args:
            student, teacher: Tensors of equal shapes: maps (N, C, H, W), tokens (N, L, C) or vectors (N, C).

        Returns:
            A scalar; the gradient flows to ``student`` only.
        """
        with torch.autocast(device_type=student[0].device.type, enabled=False):
            losses = [self._one(s.float(), t.detach().float()) for s, t in zip(student, teacher, strict=True)]
        return self.loss_weight * sum(losses) / len(losses)

    def _one(self, student: Tensor, teacher: Tensor) -> Tensor:
        if self.normalize == 'channel':
            scale = channel_variances(teacher).rsqrt()
            scale = scale[:, None, None] if teacher.ndim == 4 else scale
            return ((student - teacher) * scale).square().mean()
        error = torch.nn.functional.mse_loss(student, teacher)
        return error / channel_variance(teacher) if self.normalize == 'variance' else error


@torch.no_grad()
def channel_variance(feature: Tensor) -> Tensor:
    """Mean over channels of the variance over batch and places, over all ranks under DDP; a scalar above 0."""
    return _mean_variance(*_moments(feature)).float()


@torch.no_grad()
def channel_variances(feature: Tensor) -> Tensor:
    """Variance of each channel over batch and places, over all ranks under DDP; (C,), above 0.

    What is rounding error, or below a hundredth of the mean, is cut there: no channel counts a hundred times the mean channel.
    """
    mean, square, count = _moments(feature)
    variance = torch.where(count > 1, square - mean.square(), square)
    floor = torch.maximum(1e-4 * square, 1e-2 * _mean_variance(mean, square, count))
    return torch.where(square.mean() > 0, torch.maximum(variance, floor), torch.ones_like(square)).float()


def _moments(feature: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean and mean square of each channel, (C,) in float64, and over how many values, over all ranks under DDP."""
    sums, squares, count = _channel_sums(feature)
    moments = torch.stack([sums.sum(0), squares.sum(0)]) / count
    if get_world_size() > 1:
        all_reduce(moments, op='mean')
    return moments[0], moments[1], torch.full((), count * get_world_size(), device=feature.device)


def _mean_variance(mean: Tensor, square: Tensor, count: Tensor) -> Tensor:
    """Mean over channels of the variance, from each channel's mean and mean square over ``count`` values; a scalar above 0.

    A single value has no variance: there, the mean square stands for it. Below a ten-thousandth of the mean square a variance is
    rounding error, and what is 0 throughout is measured by the raw error, so that no batch gives a loss that ruins the weights.
    """
    energy = square.mean()
    variance = torch.where(count > 1, (square - mean.square()).mean(), energy)
    return torch.where(energy > 0, torch.maximum(variance, 1e-4 * energy), torch.ones_like(energy))


def _channel_sums(feature: Tensor) -> tuple[Tensor, Tensor, int]:
    """Sum and sum of squares of each sample's channels, (N, C) in float64, and the number of values of a channel in all.

    By norms: on a CPU ``torch.var_mean`` takes ten times as long, which would be a twentieth of a training step.
    """
    places = {2: (), 3: (1,), 4: (2, 3)}[feature.ndim]
    count = feature.numel() // feature.shape[1 if feature.ndim == 4 else -1]
    if not places:
        return feature.double(), feature.double().square(), count
    norms = torch.linalg.vector_norm(feature, dim=places)
    return feature.sum(places).double(), norms.double().square(), count


class AgreementMeter:
    """How well a feature is learnt, over any number of batches exactly as if they had been one.

    The relative error is the unexplained share of the teacher feature's variance (see :class:`FeatureMimicLoss`), the cosine is
    that of whole samples. For a feature of several tensors both are means over the tensors.
    """

    def __init__(self):
        self.sums: list[Tensor] | None = None

    @torch.no_grad()
    def update(self, student: Sequence[Tensor], teacher: Sequence[Tensor]) -> None:
        sums = [self._sums(s.float(), t.float()) for s, t in zip(student, teacher, strict=True)]
        self.sums = sums if self.sums is None else [a + b for a, b in zip(self.sums, sums)]

    @staticmethod
    def _sums(student: Tensor, teacher: Tensor) -> Tensor:
        """[squared error, cosine, samples, values per channel, then sum and sum of squares of t for each channel]"""
        sums, squares, count = _channel_sums(teacher)
        own = torch.linalg.vector_norm(student.flatten(1), dim=1).double().square()
        error = torch.linalg.vector_norm((student - teacher).flatten(1), dim=1).double().square()
        theirs = squares.sum(1)
        product = (own + theirs - error) / 2  # of the two vectors: cheaper than multiplying them out
        cosine = product / (own * theirs).sqrt().clamp_min(torch.finfo(torch.float32).tiny)
        head = torch.stack([error.sum(), cosine.sum()])
        return torch.cat([head, head.new_tensor([len(teacher), count]), sums.sum(0), squares.sum(0)])

    def compute(self, over_ranks: bool = False) -> tuple[Tensor, Tensor]:
        """(relative error, cosine), scalars; ``over_ranks`` sums the ranks of a distributed run first."""
        errors, cosines = [], []
        for sums in self.sums:
            if over_ranks:
                sums = sums.clone()
                all_reduce(sums)
            error, cosine, samples, count = sums[:4]
            total, squares = sums[4:].chunk(2)
            variance = _mean_variance(total / count, squares / count, count)
            errors.append(error / (count * len(total) * variance))
            cosines.append(cosine / samples)
        return torch.stack(errors).mean(), torch.stack(cosines).mean()
