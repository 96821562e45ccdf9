import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import ConfigError
from ..registry import MODELS


@MODELS.register_module()
class LogitsKDLoss(nn.Module):
    r"""The student's class probabilities follow the teacher's softened ones (https://arxiv.org/abs/1503.02531, section 2).

    With s, t the logits, :math:`T^2 \, \mathrm{KL}(\mathrm{softmax}(t / T) \,\|\, \mathrm{softmax}(s / T))`, the mean over the
    batch; the factor T² keeps the size of the gradient when T changes. Computed in float32 outside autocast.

    Args:
        temperature: T.
        loss_weight: Factor on the loss; the task loss beside it has the phase's ``task_weight``.
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
            own = F.log_softmax(student.float() / self.temperature, dim=1)
            theirs = F.log_softmax(teacher.detach().float() / self.temperature, dim=1)
            divergence = F.kl_div(own, theirs, reduction='batchmean', log_target=True)
        return self.loss_weight * self.temperature**2 * divergence
