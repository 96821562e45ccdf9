"""Losses by which features and logits follow the teacher's, and the two numbers that say how well a stage is learned."""

from collections.abc import Mapping, Sequence

import torch
from mmengine.dist import all_reduce, get_world_size
from mmengine.registry import MODELS as ROOT_MODELS
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import ConfigError, check_keys, naming
from ..registry import MODELS


@MODELS.register_module()
class FeatureMimicLoss(nn.Module):
    r"""Plain L2 between a student's and a teacher's feature (SSKD, https://arxiv.org/abs/1812.01819), scale-free by default.

    With s, t the features, :math:`\mu_c` the teacher's mean of channel c over batch and places,

    - ``normalize='variance'``: :math:`\sum (s - t)^2 / \sum (t - \mu_c)^2`, the share of the teacher feature's variance that
      the student leaves unexplained. It is 1 for a student that outputs the channel means, 0 for a perfect copy. The scale of
      the features cancels, so one learning rate serves all stages, networks and tasks.
    - ``normalize='none'``: :math:`\mathrm{mean} (s - t)^2` over all elements, the raw loss of the paper.

    Computed in float32 outside autocast (raw feature L2 in half precision is known not to converge:
    https://arxiv.org/abs/1809.05262, section 4). Under DDP the variance is that of the global batch, so that the gradient equals
    that of one process with the same batch. A feature of several tensors (an FPN) counts as the mean over its tensors.

    Args:
        normalize: ``'variance'`` or ``'none'``.
        loss_weight: Factor on the loss. Only matters beside other losses; stage by stage has none to balance.

    Example:
        >>> teacher = torch.randn(4, 8, 5, 5)
        >>> loss = FeatureMimicLoss()
        >>> round(loss((teacher,), (teacher,)).item(), 4)
        0.0
        >>> round(loss((teacher.mean((0, 2, 3), keepdim=True).expand_as(teacher),), (teacher,)).item(), 4)
        1.0
    """

    def __init__(self, normalize: str = 'variance', loss_weight: float = 1.0):
        super().__init__()
        if normalize == 'channel':
            raise ConfigError(
                "FeatureMimicLoss.normalize: 'channel' is gone: measured at nothing; commit 2d8540c had it last. "
                "Allowed: 'variance', 'none'"
            )
        if normalize not in ('variance', 'none'):
            raise ConfigError(f"FeatureMimicLoss.normalize must be 'variance' or 'none', found {normalize!r}")
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
        return self.loss_weight * sum(losses[1:], losses[0]) / len(losses)

    def _one(self, student: Tensor, teacher: Tensor) -> Tensor:
        error = torch.nn.functional.mse_loss(student, teacher)
        return error / channel_variance(teacher) if self.normalize == 'variance' else error


@torch.no_grad()
def channel_variance(feature: Tensor) -> Tensor:
    """Mean over channels of the variance over batch and places, over all ranks under DDP; a scalar above 0."""
    return _mean_variance(*_moments(feature)).float()


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
    """Agreement of student and teacher features, over any number of batches exactly as if they had been one.

    The relative error is the unexplained share of the teacher feature's variance (see :class:`FeatureMimicLoss`), the cosine is
    that of whole samples. For a feature of several tensors both are means over the tensors.
    """

    def __init__(self):
        self.sums: list[Tensor] | None = None

    @classmethod
    def of(cls, student: Sequence[Tensor], teacher: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """(relative error, cosine) of one batch."""
        meter = cls()
        meter.update(student, teacher)
        return meter.compute()

    @torch.no_grad()
    def update(self, student: Sequence[Tensor], teacher: Sequence[Tensor]) -> None:
        sums = [self._sums(s.float(), t.float()) for s, t in zip(student, teacher, strict=True)]
        self.sums = sums if self.sums is None else [a + b for a, b in zip(self.sums, sums)]

    @staticmethod
    def _sums(student: Tensor, teacher: Tensor) -> Tensor:
        """[squared error, cosine, samples, values per channel, then sum and sum of squares of t for each channel]"""
        sums, squares, count = _channel_sums(teacher)
        student_square = torch.linalg.vector_norm(student.flatten(1), dim=1).double().square()
        error = torch.linalg.vector_norm((student - teacher).flatten(1), dim=1).double().square()
        teacher_square = squares.sum(1)
        product = (student_square + teacher_square - error) / 2  # of the two vectors: cheaper than multiplying them out
        cosine = product / (student_square * teacher_square).sqrt().clamp_min(torch.finfo(torch.float32).tiny)
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


SHORTEST = 1e-3  # a vector of no length has no direction, and without a bound a gradient that ruins the weights


@MODELS.register_module()
class CosineMimicLoss(nn.Module):
    r"""One minus the cosine between a student's and a teacher's feature vector, for embeddings that are compared by their angle.

    :math:`\mathrm{mean}_n (1 - \cos(s_n, t_n))`, 0 for equal directions, 2 for opposite ones. It is half the squared L2
    distance of the normalized vectors: :math:`|s / |s| - t / |t||^2 = 2 - 2 \cos(s, t)`. So an optimizer that does not look at
    the scale of a loss, such as Adam, learns the same from both. What it leaves open is the length of the vectors:
    :class:`FeatureMimicLoss` on the same stage also learns that.

    As embedding loss of face models: ShrinkTeaNet, https://arxiv.org/abs/1905.10620. Computed in float32 outside
    autocast; vectors shorter than 0.001 count as that long. A feature of several tensors counts as the mean over its tensors.

    Args:
        loss_weight: Factor on the loss. Only matters beside other losses.

    Example:
        >>> student, teacher = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 3.0]])
        >>> CosineMimicLoss()((student,), (teacher,)).item()
        1.0
    """

    def __init__(self, loss_weight: float = 1.0):
        super().__init__()
        self.loss_weight = loss_weight

    def forward(self, student: Sequence[Tensor], teacher: Sequence[Tensor]) -> Tensor:
        """Compare two features.

        Args:
            student, teacher: Tensors of equal shapes: vectors (N, C), tokens (N, L, C) or maps (N, C, H, W), each token or place
                a vector of C channels.

        Returns:
            A scalar; the gradient flows to ``student`` only.
        """
        with torch.autocast(device_type=student[0].device.type, enabled=False):
            losses = [
                (
                    1 - F.cosine_similarity(s.float(), t.detach().float(), dim=1 if s.ndim == 4 else -1, eps=SHORTEST)
                ).mean()
                for s, t in zip(student, teacher, strict=True)
            ]
        return self.loss_weight * sum(losses[1:], losses[0]) / len(losses)


@MODELS.register_module()
class LogitsKDLoss(nn.Module):
    r"""The student's class probabilities follow the teacher's softened ones (https://arxiv.org/abs/1503.02531, section 2).

    With s, t the logits, :math:`T^2 \, \mathrm{KL}(\mathrm{softmax}(t / T) \,\|\, \mathrm{softmax}(s / T))`, the mean over the
    batch; the factor T² keeps the size of the gradient when T changes. Computed in float32 outside autocast.

    Args:
        temperature: T.
        loss_weight: Factor on the loss; the task loss beside it has the phase's ``task_weight``.

    Example:
        >>> logits = torch.randn(4, 10)
        >>> LogitsKDLoss()(logits, logits).item()
        0.0
    """

    def __init__(self, temperature: float = 4.0, loss_weight: float = 0.9):
        super().__init__()
        if not temperature > 0:
            raise ConfigError(f'LogitsKDLoss.temperature must be above 0, found {temperature!r}')
        self.temperature = temperature
        self.loss_weight = loss_weight

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Compare two batches of logits.

        Args:
            student, teacher: (N, K), of N samples and K classes.

        Returns:
            A scalar; the gradient flows to ``student`` only.
        """
        with torch.autocast(device_type=student.device.type, enabled=False):
            student_log = F.log_softmax(student.float() / self.temperature, dim=1)
            teacher_log = F.log_softmax(teacher.detach().float() / self.temperature, dim=1)
            divergence = F.kl_div(student_log, teacher_log, reduction='batchmean', log_target=True)
        return self.loss_weight * self.temperature**2 * divergence


def build_mimic_losses(stages: Sequence[str], cfg: Mapping | None) -> dict[str, nn.Module]:
    """The loss of each stage; stages that share a config share the module.

    Args:
        stages: Their names.
        cfg: ``model.mimic_loss``: the config of one loss for all, or a dict from stages to configs.

    Raises:
        ConfigError: It names a stage that does not exist, or is neither form.
    """
    cfg = {} if cfg is None else cfg
    if not isinstance(cfg, Mapping):
        raise ConfigError(f'model.mimic_loss must be the config of a loss or a dict of them by stage, found {cfg!r}')
    if 'type' in cfg:
        return dict.fromkeys(stages, build_loss(cfg, 'model.mimic_loss'))
    check_keys(cfg, stages, 'model.mimic_loss, a dict by stage')
    default = FeatureMimicLoss()
    return {name: build_loss(cfg[name], f'model.mimic_loss.{name}') if cfg.get(name) else default for name in stages}


def build_loss(cfg: Mapping, key: str) -> nn.Module:
    """Build a loss; ``key`` is where its config is, for messages.

    Raises:
        ConfigError: It is no config of a loss, or cannot be built.
    """
    if not isinstance(cfg, Mapping):
        raise ConfigError(f'{key} must be the config of a loss, a dict with a type; found {cfg!r}')
    with naming(cfg, key):
        return ROOT_MODELS.build(dict(cfg))
