"""Similarity of a student's features to the teacher's, whatever the student was trained for."""

from collections.abc import Iterable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..distill.distiller import StagewiseDistiller
from ..distill.losses import AgreementMeter
from ..distill.network.forward import features_at
from ..distill.network.pairing import Pairing
from ..distill.network.stages import taps_of

GRID = 4
MOST_IMAGES = 1000


class Gram:
    """Gram matrix of the features of some images, centered: what linear CKA needs, at any number of channels."""

    def __init__(self):
        self.parts: list[Tensor] = []

    def add(self, feature: tuple[Tensor, ...]) -> None:
        """Keep a batch; maps (N, C, H, W) are averaged onto a grid of at most 4x4 places, levels stand side by side."""
        self.parts.append(torch.cat([_flat(tensor.float()) for tensor in feature], dim=1))

    def centered(self) -> Tensor:
        x = torch.cat(self.parts).double()
        x = x - x.mean(0)
        return x @ x.T


def linear_cka(a: Tensor, b: Tensor) -> float:
    """Linear centered kernel alignment of two centered Gram matrices (N, N): 1 for features equal up to rotation and scale.

    Kornblith et al., https://arxiv.org/abs/1905.00414, section 3.
    """
    return float((a * b).sum() / (a.norm() * b.norm()).clamp_min(torch.finfo(torch.float64).tiny))


def _flat(tensor: Tensor) -> Tensor:
    if tensor.ndim == 4:
        height, width = tensor.shape[-2:]
        tensor = F.adaptive_avg_pool2d(tensor, (min(GRID, height), min(GRID, width)))
    elif tensor.ndim == 3:
        tensor = tensor.mean(1)
    return tensor.flatten(1)


@torch.no_grad()
def compare_features(student: nn.Module, teacher: nn.Module, batches: Iterable[dict]) -> Mapping[str, dict[str, float]]:
    """Agreement of each stage, over the first ``MOST_IMAGES`` images.

    Args:
        student: A :class:`StagewiseDistiller`, or a plain model.
        teacher: The teacher's model.
        batches: What a data loader gives; the student's own preprocessor is applied.

    Returns:
        For each stage ``cka``, and for a distiller ``relative_error`` and ``cosine``, adapters included.
    """
    student.eval()
    teacher.eval()
    distiller = student if isinstance(student, StagewiseDistiller) else None
    model, own, theirs = student, None, None
    if distiller is not None:
        model, own, theirs = distiller.student, distiller.stages, distiller.teacher_stages
    grams: dict[str, tuple[Gram, Gram]] = {}
    meters: dict[str, AgreementMeter] = {}
    seen = 0
    for data in batches:
        inputs = student.data_preprocessor(data, False)['inputs']
        if own is None:
            own, theirs, _ = Pairing(input_shape=tuple(inputs.shape[1:]), resize=True).pair(model, teacher)
        grams = grams or {name: (Gram(), Gram()) for name in own}
        features = [features_at(net, inputs, taps_of(cut.values())) for net, cut in ((model, own), (teacher, theirs))]
        for name in own:
            for gram, feature, stage in zip(grams[name], features, (own[name], theirs[name])):
                gram.add(stage.feature(feature))
        if distiller is not None:
            for name, pair in distiller.compare(inputs, list(own)).items():
                meters.setdefault(name, AgreementMeter()).update(*pair)
        seen += len(inputs)
        if seen >= MOST_IMAGES:
            break
    result = {}
    for name, (a, b) in grams.items():
        result[name] = dict(cka=linear_cka(a.centered(), b.centered()))
        if name in meters:
            error, cosine = meters[name].compute()
            result[name] |= dict(relative_error=error.item(), cosine=cosine.item())
    return result
