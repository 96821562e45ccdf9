from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..registry import MODELS

SHORTEST = 1e-3  # a vector of no length has no direction, and without a bound a gradient that ruins the weights


@MODELS.register_module()
class CosineMimicLoss(nn.Module):
    r"""One minus the cosine between a student's and a teacher's feature vector, for embeddings that are compared by their angle.

    :math:`\mathrm{mean}_n (1 - \cos(s_n, t_n))`, 0 for equal directions, 2 for opposite ones. It is half the squared L2 distance
    of the normalised vectors, :math:`|s / |s| - t / |t||^2 = 2 - 2 \cos(s, t)`, so an optimiser that does not look at the scale of
    a loss, such as Adam, learns the same from both. What it leaves open is the length of the vectors:
    :class:`FeatureMimicLoss` on the same stage also learns that.

    As embedding loss of face models: ShrinkTeaNet, https://arxiv.org/abs/1905.10620. Computed in float32 outside
    autocast; vectors shorter than 0.001 count as that long. A feature of several tensors counts as the mean over its tensors.

    Args:
        loss_weight: Factor on the loss. Only matters beside other losses.
    """

    def __init__(self, loss_weight: float = 1.0):
        super().__init__()
        self.loss_weight = loss_weight

    def forward(self, student: Sequence[Tensor], teacher: Sequence[Tensor]) -> Tensor:
        """Compare two features.

        Args:
            student, teacher: Tensors of equal shapes: vectors (N, C), or tokens (N, L, C), each token a vector.

        Returns:
            A scalar; the gradient flows to ``student`` only.
        """
        with torch.autocast(device_type=student[0].device.type, enabled=False):
            losses = [
                (1 - F.cosine_similarity(s.float(), t.detach().float(), dim=-1, eps=SHORTEST)).mean()
                for s, t in zip(student, teacher, strict=True)
            ]
        return self.loss_weight * sum(losses) / len(losses)
