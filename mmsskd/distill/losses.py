"""Losses by which features and logits follow the teacher, the two numbers that say how well a stage is learned, values of steps."""

import functools
import inspect
import math
from collections.abc import Mapping, Sequence

import torch
from mmengine.dist import all_reduce, get_world_size
from mmengine.registry import MODELS as ROOT_MODELS
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import ConfigError, check_keys, naming
from ..registry import MODELS


def _above_zero(loss: nn.Module, key: str, value: float) -> float:
    """Refuse a weight or temperature with which nothing, or the opposite, is learned."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < float('inf'):
        fix = '; to do without the loss, leave the stage out of `mimic`, or set logits=False' if 'weight' in key else ''
        raise ConfigError(f'{type(loss).__name__}.{key} must be a number above 0, found {value!r}{fix}')
    return value


def _check_maps(loss: nn.Module, does: str, shapes: Sequence[tuple[int, ...]]) -> None:
    """Refuse a feature that is not made of maps (C, H, W)."""
    for shape in shapes:
        if len(shape) != 3:
            raise ConfigError(
                f'{type(loss).__name__} {does}, but the feature has a tensor of shape {shape}; take another loss for that stage '
                '(model.mimic_loss, a dict by stage)'
            )


class MimicLoss(nn.Module):
    """Base of the losses between two features; one of your own writes :meth:`compare` (docs/losses.md).

    It is computed in float32 outside autocast, and a feature of several tensors (an FPN) counts as the mean over its tensors.
    A loss whose ``__init__`` takes ``shapes`` is given the teacher's feature there: one shape a tensor, without the batch
    dimension. One whose ``compare`` takes ``data_samples`` is given the ground truth of the batch there. Each stage has a loss
    of its own. Weights that it holds train with their stage, are in checkpoints, and are not in the student that is exported.

    Args:
        loss_weight: Factor on the loss. Only matters beside other losses; stage by stage has none to balance.

    Example:
        >>> class L1Loss(MimicLoss):
        ...     def compare(self, student, teacher):
        ...         return (student - teacher).abs().mean()
        >>> L1Loss(loss_weight=2.0)((torch.ones(2, 3, 4, 4),), (torch.zeros(2, 3, 4, 4),)).item()
        2.0
    """

    def __init__(self, loss_weight: float = 1.0):
        super().__init__()
        self.loss_weight = _above_zero(self, 'loss_weight', loss_weight)

    def forward(self, student: Sequence[Tensor], teacher: Sequence[Tensor], **batch) -> Tensor:
        """Compare two features.

        Args:
            student, teacher: Tensors of equal shapes: maps (N, C, H, W), tokens (N, L, C) or vectors (N, C).
            batch: ``data_samples``, for a loss whose :meth:`compare` takes them.

        Returns:
            A scalar; the gradient flows to ``student`` only.
        """
        with torch.autocast(device_type=student[0].device.type, enabled=False):
            losses = [
                self.compare(s.float(), t.detach().float(), **batch) for s, t in zip(student, teacher, strict=True)
            ]
        return self.loss_weight * sum(losses[1:], losses[0]) / len(losses)

    def compare(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Compare one tensor of each, of equal shapes in float32; the teacher's has no gradient. Returns a scalar."""
        raise NotImplementedError


@MODELS.register_module()
class FeatureMimicLoss(MimicLoss):
    r"""Plain L2 between a student's and a teacher's feature (SSKD, https://arxiv.org/abs/1812.01819), scale-free by default.

    With s, t the features, :math:`\mu_c` the teacher's mean of channel c over batch and places,

    - ``normalize='variance'``: :math:`\sum (s - t)^2 / \sum (t - \mu_c)^2`, the share of the teacher feature's variance that
      the student leaves unexplained. It is 1 for a student that outputs the channel means, 0 for a perfect copy. The scale of
      the features cancels, so one learning rate serves all stages, networks and tasks.
    - ``normalize='none'``: :math:`\mathrm{mean} (s - t)^2` over all elements, the raw loss of the paper.

    Raw feature L2 in half precision is known not to converge (https://arxiv.org/abs/1809.05262, section 4). Under DDP the variance
    is that of the global batch, so that the gradient equals that of one process with the same batch.

    Args:
        normalize: ``'variance'`` or ``'none'``.
        loss_weight: As for :class:`MimicLoss`.

    Example:
        >>> teacher = torch.randn(4, 8, 5, 5)
        >>> loss = FeatureMimicLoss()
        >>> round(loss((teacher,), (teacher,)).item(), 4)
        0.0
        >>> round(loss((teacher.mean((0, 2, 3), keepdim=True).expand_as(teacher),), (teacher,)).item(), 4)
        1.0
    """

    def __init__(self, normalize: str = 'variance', loss_weight: float = 1.0):
        super().__init__(loss_weight)
        if normalize == 'channel':
            raise ConfigError(
                "FeatureMimicLoss.normalize: 'channel' is gone: measured at nothing; commit 2d8540c had it last. "
                "Allowed: 'variance', 'none'"
            )
        if normalize not in ('variance', 'none'):
            raise ConfigError(f"{type(self).__name__}.normalize must be 'variance' or 'none', found {normalize!r}")
        self.normalize = normalize

    def compare(self, student: Tensor, teacher: Tensor) -> Tensor:
        error = F.mse_loss(student, teacher)
        return error / channel_variance(teacher) if self.normalize == 'variance' else error


@torch.no_grad()
def channel_variance(feature: Tensor) -> Tensor:
    """Mean over channels of the variance over batch and places, over all ranks under DDP; a scalar above 0."""
    if feature.device.type == 'cpu' or get_world_size() > 1:
        return _mean_variance(*_moments(feature)).float()
    return _variance_in_few_kernels(feature)


def _variance_in_few_kernels(feature: Tensor) -> Tensor:
    """The same in a third of the operations: of a small feature a GPU waits for each of them to be launched."""
    channels = 1 if feature.ndim == 4 else feature.ndim - 1
    places = [i for i in range(feature.ndim) if i != channels]
    variance, mean = torch.var_mean(feature, places, correction=0)
    energy = torch.addcmul(variance, mean, mean).mean()
    single = feature.numel() == feature.shape[channels]
    variance = torch.maximum(energy if single else variance.mean(), 1e-4 * energy)
    return variance.masked_fill_(energy == 0, 1.0)


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
        # a tensor of both would be made on the CPU
        counts = [head.new_full((1,), number) for number in (len(teacher), count)]
        return torch.cat([head, *counts, sums.sum(0), squares.sum(0)])

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
class CosineMimicLoss(MimicLoss):
    r"""One minus the cosine between a student's and a teacher's feature vector, for embeddings that are compared by their angle.

    :math:`\mathrm{mean}_n (1 - \cos(s_n, t_n))`, 0 for equal directions, 2 for opposite ones. It is half the squared L2
    distance of the normalized vectors: :math:`|s / |s| - t / |t||^2 = 2 - 2 \cos(s, t)`. So an optimizer that does not look at
    the scale of a loss, such as Adam, learns the same from both. What it leaves open is the length of the vectors:
    :class:`FeatureMimicLoss` on the same stage also learns that.

    As embedding loss of face models: ShrinkTeaNet, https://arxiv.org/abs/1905.10620. Of tokens and maps, each token or place is
    such a vector of C channels. Vectors shorter than 0.001 count as that long.

    Example:
        >>> student, teacher = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 3.0]])
        >>> CosineMimicLoss()((student,), (teacher,)).item()
        1.0
    """

    def compare(self, student: Tensor, teacher: Tensor) -> Tensor:
        return (1 - F.cosine_similarity(student, teacher, dim=1 if student.ndim == 4 else -1, eps=SHORTEST)).mean()


@MODELS.register_module()
class BalancedMimicLoss(CosineMimicLoss):
    r"""Direction and length: a cosine beside a smooth L1 (AM-RADIO, https://arxiv.org/abs/2312.06709, "Loss formulation").

    :math:`\alpha \, \mathrm{mean} (1 - \cos(s, t)) + \beta \, \mathrm{mean} \, \mathrm{smooth}_{L1}(s - t)`, where
    :math:`\mathrm{smooth}_{L1}(x)` is :math:`x^2 / 2` below 1 and :math:`|x| - 1/2` from there on. What most tools call
    "balanced" for foundation models as teachers; the second term keeps the length, which the first leaves open.

    Args:
        cosine: The weight :math:`\alpha`.
        smooth_l1: The weight :math:`\beta`.
        loss_weight: As for :class:`MimicLoss`.

    Example:
        >>> student, teacher = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 3.0]])
        >>> round(BalancedMimicLoss()((student,), (teacher,)).item(), 4)  # 0.9 * 1 + 0.1 * (0.5 + 2.5) / 2
        1.05
    """

    def __init__(self, cosine: float = 0.9, smooth_l1: float = 0.1, loss_weight: float = 1.0):
        super().__init__(loss_weight)
        self.cosine, self.smooth_l1 = cosine, smooth_l1

    def compare(self, student: Tensor, teacher: Tensor) -> Tensor:
        direction = super().compare(student, teacher)
        return self.cosine * direction + self.smooth_l1 * F.smooth_l1_loss(student, teacher)


@MODELS.register_module()
class PKDLoss(MimicLoss):
    r"""Half the L2 of the normalized features, which is one minus their correlation: the shape of a feature, not its scale.

    PKD, https://arxiv.org/abs/2207.02039, "Feature imitation with Pearson correlation coefficient". Each channel c of either
    feature is brought to mean 0 and variance 1 over batch and places. Then :math:`\mathrm{mean} (\hat s - \hat t)^2 / 2 =
    \mathrm{mean}_c (1 - r_c)` with Pearson's :math:`r_c`: 0 for any copy up to a positive scale and a shift of each channel, 1 for
    what has nothing to do with the teacher, 2 for the opposite. For detectors of different kinds, whose FPNs differ in scale. It
    does not teach mean and scale, so what follows must learn too: use it beside the task loss, or before it.

    Under DDP each rank normalizes by its own batch.

    Args:
        loss_weight: Factor on the loss. The paper's 6 (two stages) and 10 (one stage) are for each of four levels, which it sums:
            24 and 40 here, where a level counts as a part of the mean.

    Example:
        >>> teacher = torch.randn(4, 8, 5, 5)
        >>> round(PKDLoss()((3 * teacher + 1,), (teacher,)).item(), 4)
        0.0
        >>> round(PKDLoss()((-teacher,), (teacher,)).item(), 4)
        2.0
    """

    def compare(self, student: Tensor, teacher: Tensor) -> Tensor:
        return F.mse_loss(_normalized(student), _normalized(teacher)) / 2


def _normalized(feature: Tensor) -> Tensor:
    """The rows of each channel's values over batch and places, (C, n), with mean 0 and variance 1; a constant gives zeros."""
    rows = feature.transpose(0, 1 if feature.ndim == 4 else -1).flatten(1)
    return F.layer_norm(rows, rows.shape[1:], eps=SHORTEST**2)


@MODELS.register_module()
class CWDLoss(MimicLoss):
    r"""Each channel as a distribution over the places of an image, by which channels say where something is.

    CWD, https://arxiv.org/abs/2011.13256, "Channel-wise distillation". With :math:`\phi(x) = \mathrm{softmax}(x / T)` over the
    places of a channel, :math:`T^2 \, \mathrm{mean}_{n, c} \, \mathrm{KL}(\phi(t) \,\|\, \phi(s))`. For FPNs, and for the maps of
    logits of a dense head, where a channel is a class. It says nothing about a vector, which has one place.

    Args:
        temperature: T; the paper has 4 for segmentation, mmrazor's detectors 1.
        loss_weight: As for :class:`MimicLoss`.

    Example:
        >>> teacher = torch.randn(2, 3, 4, 4)
        >>> abs(round(CWDLoss()((teacher + 5,), (teacher,)).item(), 4))
        0.0
    """

    def __init__(self, temperature: float = 1.0, loss_weight: float = 1.0):
        super().__init__(loss_weight)
        self.temperature = _above_zero(self, 'temperature', temperature)

    def compare(self, student: Tensor, teacher: Tensor) -> Tensor:
        if student.ndim == 2:
            raise ConfigError(
                f'CWDLoss compares where in the image channels are high, but the feature is a vector, {tuple(student.shape)}; '
                'take CosineMimicLoss or FeatureMimicLoss for that stage (model.mimic_loss, a dict by stage)'
            )
        student_log, teacher_log = (F.log_softmax(_places(x) / self.temperature, dim=-1) for x in (student, teacher))
        divergence = F.kl_div(student_log, teacher_log, reduction='none', log_target=True).sum(-1).mean()
        return self.temperature**2 * divergence


def _places(feature: Tensor) -> Tensor:
    """A map (N, C, H, W), tokens (N, L, C) or vectors (N, C), which have one place, as (N, C, places)."""
    if feature.ndim == 2:
        return feature[..., None]
    return feature.flatten(2) if feature.ndim == 4 else feature.transpose(1, 2)


@MODELS.register_module()
class ForegroundMimicLoss(MimicLoss):
    r"""L2 that counts each box of an image alike, whatever its size, beside the background: for detectors, on images with boxes.

    The mask and the scale of FGD, https://arxiv.org/abs/2111.11837, section 3.1, without its attention: a place weighs
    :math:`1 / (H_r W_r)` in a box that takes :math:`H_r W_r` places of the level (in several: the smallest), and
    ``background`` / :math:`N_{bg}` in none, where :math:`N_{bg}` places of the image are in none. A box takes each place that it
    touches. The weights w of a batch are scaled to mean 1, and the loss is :math:`\mathrm{mean} \, w (s - t)^2` as a share of
    the variance of the teacher's feature, so it is as large as :class:`FeatureMimicLoss` where errors do not depend on boxes.

    Boxes are ``gt_instances.bboxes`` of the data samples, in pixels of the batch, whose size is their ``batch_input_shape``, as
    mmdet's preprocessor leaves them; so this loss looks at labels. Under DDP each rank weighs by its own batch.

    Args:
        shapes: Of the teacher's feature, see :class:`MimicLoss`; maps alone.
        background: Weight of the background of an image, beside 1 for each of its boxes. 0.5 as in FGD's configs; 0: boxes alone
            (an image without any then counts for nothing).
        loss_weight: As for :class:`MimicLoss`.

    Example:
        >>> from mmengine.structures import BaseDataElement
        >>> sample = BaseDataElement(metainfo=dict(batch_input_shape=(32, 32)))
        >>> sample.gt_instances = BaseDataElement(bboxes=torch.tensor([[0.0, 0.0, 16.0, 16.0]]))  # left, top, right, bottom
        >>> teacher = torch.randn(1, 8, 4, 4)
        >>> loss = ForegroundMimicLoss(shapes=[(8, 4, 4)])
        >>> inside, outside = teacher.clone(), teacher.clone()
        >>> inside[..., 0, 0] += 1.0  # one of the 4 places of the box
        >>> outside[..., 3, 3] += 1.0  # one of the 12 places of the background
        >>> values = [loss((student,), (teacher,), data_samples=[sample]) for student in (inside, outside)]
        >>> round((values[0] / values[1]).item(), 3)  # 1 / 4 to 0.5 / 12
        6.0
    """

    def __init__(self, shapes: Sequence[tuple[int, ...]], background: float = 0.5, loss_weight: float = 1.0):
        super().__init__(loss_weight)
        if not 0 <= background < float('inf'):
            raise ConfigError(f'ForegroundMimicLoss.background must be a number of at least 0, found {background!r}')
        _check_maps(self, 'weighs the places of maps', shapes)
        self.background = background

    def compare(self, student: Tensor, teacher: Tensor, data_samples: Sequence | None = None) -> Tensor:
        size = teacher.shape[-2:]
        inside = torch.stack([self._in_boxes(sample, size) for sample in data_samples or [None]])[:, None]
        outside = inside == 0
        weight = inside + self.background * outside / outside.sum((2, 3), keepdim=True).clamp_min(1)
        weight = weight / weight.mean().clamp_min(torch.finfo(torch.float32).tiny)
        return (weight * (student - teacher).square()).mean() / channel_variance(teacher)

    @staticmethod
    def _in_boxes(sample, size: Sequence[int]) -> Tensor:
        """One over the places of the box in which a place is, (H, W); 0 where it is in none."""
        boxes = getattr(getattr(sample, 'gt_instances', None), 'bboxes', None)
        image = getattr(sample, 'batch_input_shape', None)
        if boxes is None or image is None:
            raise ConfigError(
                'ForegroundMimicLoss weighs by the boxes of a detector, but the batch has no data samples with '
                f'gt_instances.bboxes and batch_input_shape, as mmdet gives them; found {type(sample).__name__}. Train the stage '
                'on images with boxes, or take FeatureMimicLoss, which needs none (model.mimic_loss)'
            )
        boxes = getattr(boxes, 'tensor', boxes)
        left, top, right, bottom = boxes.float().unbind(1)
        rows, columns = (
            _touched(*ends, count, count / pixels)
            for ends, count, pixels in zip(((top, bottom), (left, right)), size, image)
        )
        inside = rows[:, :, None] & columns[:, None, :]
        shares = inside / inside.sum((1, 2), keepdim=True).clamp_min(1)
        return torch.cat([shares, shares.new_zeros(1, *size)]).amax(0)


def _touched(begins: Tensor, ends: Tensor, count: int, scale: float) -> Tensor:
    """The places that each interval touches, of ``count``, as a mask (n, count); one at least, of an interval in the image."""
    first = (begins * scale).floor()
    end = torch.maximum((ends * scale).ceil(), first + 1)
    places = torch.arange(count, device=begins.device)
    return (places >= first[:, None]) & (places < end[:, None])


@MODELS.register_module()
class MGDLoss(FeatureMimicLoss):
    r"""The teacher's feature generated from the student's with places left out, so that each place must know its neighbors.

    MGD, https://arxiv.org/abs/2205.01529, "Generation with masked feature": with a random mask M of places, one for each image,
    :math:`G(x) = W_2 \, \mathrm{ReLU}(W_1 x)` with two 3x3 convolutions a level, the error is
    :math:`\mathrm{mean} (G(s M) - t)^2`. G belongs to the loss: it trains with its stage and is not exported. So the student's
    feature itself need not equal the teacher's, and what is logged as relative error says little here.

    Args:
        shapes: Of the teacher's feature, see :class:`MimicLoss`; maps alone.
        mask: The share of the places that are left out.
        normalize, loss_weight: As for :class:`FeatureMimicLoss`. The paper sums squares over C, H and W, with a weight of 2e-5
            (one stage) or 5e-7 (two stages), and over the levels.

    Example:
        >>> loss = MGDLoss(shapes=[(8, 4, 4)])
        >>> sorted(name for name, _ in loss.named_parameters())[0]
        'generators.0.0.bias'
        >>> loss((torch.randn(2, 8, 4, 4),), (torch.randn(2, 8, 4, 4),)).ndim
        0
    """

    def __init__(
        self,
        shapes: Sequence[tuple[int, ...]],
        mask: float = 0.65,
        normalize: str = 'variance',
        loss_weight: float = 1.0,
    ):
        super().__init__(normalize, loss_weight)
        if not 0 <= mask < 1:
            raise ConfigError(f'MGDLoss.mask must be a share of at least 0 and below 1, found {mask!r}')
        _check_maps(self, 'generates maps by 3x3 convolutions', shapes)
        self.mask = mask
        self.generators = nn.ModuleList(
            nn.Sequential(nn.Conv2d(c, c, 3, padding=1), nn.ReLU(inplace=True), nn.Conv2d(c, c, 3, padding=1))
            for c, *_ in shapes
        )

    def forward(self, student: Sequence[Tensor], teacher: Sequence[Tensor], **batch) -> Tensor:
        kept = [torch.rand_like(s[:, :1], dtype=torch.float32) >= self.mask for s in student]
        generated = [make(s * keep) for make, s, keep in zip(self.generators, student, kept, strict=True)]
        return super().forward(generated, teacher, **batch)


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
        self.temperature = _above_zero(self, 'temperature', temperature)
        self.loss_weight = _above_zero(self, 'loss_weight', loss_weight)

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Compare two batches of logits, (N, K) of N samples and K classes. Returns a scalar; the gradient flows to ``student``."""
        with torch.autocast(device_type=student.device.type, enabled=False):
            student_log = F.log_softmax(student.float() / self.temperature, dim=1)
            teacher_log = F.log_softmax(teacher.detach().float() / self.temperature, dim=1)
            divergence = F.kl_div(student_log, teacher_log, reduction='batchmean', log_target=True)
        return self.loss_weight * self.temperature**2 * divergence


def takes_samples(loss: nn.Module) -> bool:
    """Whether a loss between features wants the ground truth of the batch, see :class:`MimicLoss`."""
    function = type(loss).compare if isinstance(loss, MimicLoss) else type(loss).forward
    return _has_argument(function, 'data_samples')


@functools.cache  # asked in every step
def _has_argument(function, name: str) -> bool:
    return name in inspect.signature(function).parameters


def build_mimic_losses(shapes: Mapping[str, Sequence[tuple[int, ...]]], cfg: Mapping | None) -> dict[str, nn.Module]:
    """The loss of each stage.

    Args:
        shapes: The teacher's feature of each stage: one shape a tensor, without the batch dimension.
        cfg: ``model.mimic_loss``: the config of one loss for all, or a dict from stages to configs.

    Raises:
        ConfigError: It names a stage that does not exist, or is neither form.
    """
    cfg = {} if cfg is None else cfg
    if not isinstance(cfg, Mapping):
        raise ConfigError(f'model.mimic_loss must be the config of a loss or a dict of them by stage, found {cfg!r}')
    if 'type' in cfg:
        return {name: build_loss(cfg, 'model.mimic_loss', feature) for name, feature in shapes.items()}
    check_keys(cfg, list(shapes), 'model.mimic_loss, a dict by stage')
    return {
        name: build_loss(cfg[name], f'model.mimic_loss.{name}', feature) if cfg.get(name) else FeatureMimicLoss()
        for name, feature in shapes.items()
    }


def build_loss(cfg: Mapping, key: str, shapes: Sequence[tuple[int, ...]] | None = None) -> nn.Module:
    """Build a loss.

    Args:
        cfg: Its config.
        key: Where that is, for messages.
        shapes: Of the feature that it compares, for a loss that wants to know, see :class:`MimicLoss`.

    Raises:
        ConfigError: It is no config of a loss, or cannot be built.
    """
    if not isinstance(cfg, Mapping):
        raise ConfigError(f'{key} must be the config of a loss, a dict with a type; found {cfg!r}')
    cfg = dict(cfg)
    with naming(cfg, key):
        with ROOT_MODELS.switch_scope_and_registry(cfg.get('_scope_')) as registry:
            kind = registry.get(cfg['type']) if isinstance(cfg.get('type'), str) else cfg.get('type')
        if shapes is not None and kind is not None and 'shapes' in inspect.signature(kind).parameters:
            cfg.setdefault('shapes', [tuple(shape) for shape in shapes])
        return ROOT_MODELS.build(cfg)


# -- the values of a step on their way from the GPU to the log ---------------------------------------------------------


class StepValues:
    """The values of a step, copied from the GPU when it comes to it. Nothing waits for that before :meth:`read`.

    Args:
        names: Of the values.
        values: (N,), on any device.
        finite: Names of those that must be finite; ``'loss'`` is the sum.

    Example:
        >>> values = StepValues(['loss', 'loss_cls', 'accuracy'], torch.tensor([float('nan'), float('nan'), 0.5]))
        >>> values.failure()
        'loss=nan, loss_cls=nan'
    """

    def __init__(self, names: list[str], values: Tensor, finite: Sequence[str] = ('loss',)):
        self.names, self.values = names, values.to('cpu', non_blocking=True)  # into pinned memory
        self.finite = finite
        self.copied = torch.cuda.Event() if values.is_cuda else None
        if self.copied is not None:
            self.copied.record()

    def read(self) -> dict[str, float]:
        """The values by name; waits for the GPU to have made the step so far."""
        if self.copied is not None:
            self.copied.synchronize()
        return dict(zip(self.names, self.values.tolist(), strict=True))

    def failure(self) -> str | None:
        """Losses, and what else must be finite, as text where one is not, else None; waits as :meth:`read` does."""
        values = self.read()
        if all(math.isfinite(values[name]) for name in self.finite if name in values):
            return None
        shown = [name for name in values if 'loss' in name or name in self.finite]
        return ', '.join(f'{name}={values[name]:.4g}' for name in shown)
