import math
from collections.abc import Sequence

import torch
from mmpretrain.models.heads import ClsHead
from torch import Tensor, nn
from torch.nn import functional as F

from ...errors import ConfigError, candidates
from ...registry import MODELS
from .margin_softmax import MarginSoftmaxLoss

DEFAULT_MARGINS = dict(arcface=0.5, cosface=0.4)


@MODELS.register_module()
class MarginClsHead(ClsHead):
    r"""A classifier of people whose logits are cosines, with a margin on the logit of the true class.

    Let :math:`\theta_j` be the angle between an embedding and the center of class j. The loss is the cross-entropy of
    :math:`s \cos\theta_j` for the other classes and :math:`s (\cos(m_1 \theta_y + m_2) - m_3)` for the true one: ArcFace,
    https://arxiv.org/abs/1801.07698, equation 4 (united margin) and 3 (:math:`m_2` alone); CosFace,
    https://arxiv.org/abs/1801.09414, equation 4 (:math:`m_3` alone).

    Where :math:`m_1 \theta_y + m_2` passes :math:`\pi` the cosine would rise again. From there on the target logit is
    :math:`\cos\theta_y - d - m_3`, which falls on to the end. d is :math:`m_2 \sin m_2` as in InsightFace's and mmpretrain's
    ArcFace, or more where :math:`m_1 \neq 1` needs it. This is not the "easy margin", which drops the margin beyond 90 degrees.

    The loss is computed in float32 outside autocast, whatever the embeddings are, and keeps one matrix of batch size times classes,
    see :class:`~mmsskd.face.models.margin_softmax.MarginSoftmaxLoss`. Gradients are finite at cosines of 1 and -1.

    Attributes:
        weight: The class centers (num_classes, in_channels), of any length; only their directions count. A student may start with
            those of its teacher (``model.init_from_teacher``).

    Args:
        num_classes: Number of people in the training set.
        in_channels: Length of the embedding.
        margin: ``'arcface'``, ``'cosface'`` or ``'combined'``.
        s: Scale of the logits.
        m: The margin: :math:`m_2` in radians for ArcFace (default 0.5), :math:`m_3` for CosFace (default 0.4, as InsightFace; 0.35
            in the paper), (:math:`m_1, m_2, m_3`) for combined.
        init_cfg: As in MMEngine. Default: centers from N(0, 0.01).

    Raises:
        ConfigError: ``num_classes`` is missing, or a margin of another kind or range.

    Example:
        >>> head = MarginClsHead(num_classes=10, in_channels=16, margin='cosface')
        >>> head((torch.randn(4, 16),)).shape
        torch.Size([4, 10])
    """

    def __init__(
        self,
        num_classes: int | None = None,
        in_channels: int = 512,
        margin: str = 'arcface',
        s: float = 64.0,
        m: float | Sequence[float] | None = None,
        init_cfg: dict | list[dict] | None = None,
    ):
        super().__init__(loss=dict(type='mmpretrain.CrossEntropyLoss'), init_cfg=init_cfg)
        if not isinstance(num_classes, int) or num_classes < 1:
            raise ConfigError(
                f'model.head.num_classes must be the number of people in the training set, found {num_classes!r}; a model that '
                'only embeds needs no head: model.head=None'
            )
        if not s > 0:
            raise ConfigError(f'model.head.s must be above 0, found {s!r}')
        self.num_classes = num_classes
        self.in_channels = in_channels
        self.s = float(s)
        self.margins = united_margin(margin, m)
        self.weight = nn.Parameter(torch.empty(num_classes, in_channels).normal_(std=0.01))

    def pre_logits(self, feats: Tensor | Sequence[Tensor]) -> Tensor:
        """The embedding (N, in_channels): the last of what the neck returned, in float32.

        Raises:
            ConfigError: It has another length.
        """
        feats = feats if isinstance(feats, Tensor) else feats[-1]
        if feats.ndim != 2 or feats.shape[1] != self.in_channels:
            raise ConfigError(
                f'model.head.in_channels is {self.in_channels}, but the neck returns {tuple(feats.shape)}; set it to '
                'num_features of the neck'
            )
        return feats.to(torch.promote_types(feats.dtype, torch.float32))

    def forward(self, feats: Tensor | Sequence[Tensor]) -> Tensor:
        """Logits (N, num_classes) without margin: s times the cosine between each embedding and each class center."""
        with torch.autocast(self.weight.device.type, enabled=False):
            feats = self.pre_logits(feats)
            return self.s * F.linear(F.normalize(feats), F.normalize(self.weight.to(feats.dtype)))

    def loss(self, feats: Tensor | Sequence[Tensor], data_samples: list) -> dict[str, Tensor]:
        """The mean over the batch of the cross-entropy with margin, as ``loss``.

        Args:
            feats: The embeddings (N, in_channels), or a tuple whose last item they are.
            data_samples: N samples with ``gt_label``.

        Raises:
            ConfigError: A sample without a label, a label out of range, or mixed labels (``gt_score``).
        """
        feats = self.pre_logits(feats)
        labels = self._labels(data_samples).to(feats.device)
        with torch.autocast(feats.device.type, enabled=False):
            return dict(loss=MarginSoftmaxLoss.apply(feats, self.weight.to(feats.dtype), labels, self.margins, self.s))

    def _labels(self, data_samples: list) -> Tensor:
        """The labels (N,) of ``data_samples``, checked here because a GPU that indexes out of range loses its process."""
        for sample in data_samples:
            if 'gt_label' not in sample or sample.gt_label.numel() != 1:
                found = sample.gt_label.tolist() if 'gt_label' in sample else 'none'
                raise ConfigError(
                    f'model.head needs one label for each face, found {found} for {sample.get("img_path", "a sample")}; faces '
                    'without a label can only serve in transfer phases'
                )
            if 'gt_score' in sample:
                raise ConfigError(
                    'model.head puts a margin on one class of each face and cannot learn from mixed labels (gt_score); remove '
                    'batch_augments (Mixup, CutMix) and to_onehot from the data_preprocessor'
                )
        labels = torch.cat([sample.gt_label for sample in data_samples])
        wrong = labels[(labels < 0) | (labels >= self.num_classes)]
        if len(wrong):
            raise ConfigError(
                f'model.head.num_classes is {self.num_classes}, so labels must be 0 to {self.num_classes - 1}, found '
                f'{sorted(set(wrong.tolist()))[:8]}; set it to the number of people in the training set'
            )
        return labels


def united_margin(margin: str, m: float | Sequence[float] | None) -> tuple[float, float, float]:
    """(m1, m2, m3) of :class:`MarginClsHead`'s arguments.

    Raises:
        ConfigError: An unknown kind, another number of margins, or a margin out of range.
    """
    kinds = [*DEFAULT_MARGINS, 'combined']
    if margin not in kinds:
        raise ConfigError(f'model.head.margin: there is no {margin!r}; {candidates(str(margin), kinds)}')
    m = DEFAULT_MARGINS.get(margin) if m is None else m
    numbers: list = list(m) if isinstance(m, (list, tuple)) else [m]
    if not all(isinstance(value, (int, float)) for value in numbers) or len(numbers) != (
        3 if margin == 'combined' else 1
    ):
        wanted = 'three numbers (m1, m2, m3), for instance (1.0, 0.3, 0.2)' if margin == 'combined' else 'one number'
        raise ConfigError(f'model.head.m must be {wanted} for margin={margin!r}, found {m!r}')
    kinds_of: dict[str, list[float]] = dict(
        arcface=[1.0, *numbers, 0.0], cosface=[1.0, 0.0, *numbers], combined=numbers
    )
    m1, m2, m3 = kinds_of[margin]
    if not (m1 > 0 and 0 <= m2 < math.pi and m3 >= 0):
        raise ConfigError(f'model.head.m: m1 must be above 0, m2 from 0 to below pi, m3 from 0; found {(m1, m2, m3)}')
    return float(m1), float(m2), float(m3)
