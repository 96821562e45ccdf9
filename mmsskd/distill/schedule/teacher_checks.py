"""Teacher checks: its answers against chance, its features against constants, its weights against the student's."""

from collections import Counter
from collections.abc import Mapping, Sequence, Sized

import torch
from mmengine.runner import Runner
from torch.nn.modules.batchnorm import _BatchNorm

from ..distiller import StagewiseDistiller
from ..losses import channel_variance
from ..phases import Phase

MUCH_SMALLER = 0.5  # of the student's backbone: some good pairs have a teacher that is a little smaller
ALWAYS = 0.9  # share of images of one predicted class from which on predictions count as constant
NO_AP = 0.01  # average precision, from 0 to 1, of a detector that finds nothing
NO_FACE = 0.55  # accuracy or area under the curve of comparing faces; 0.5 is guessing
FLAT = 1e-6  # variance of a feature over its mean square, below which it is the same for all images and places


def check_teacher(runner: Runner, distiller: StagewiseDistiller) -> None:
    """Warn of a teacher that is smaller than the student, is the student itself, or never saw an image.

    Called with the weights that training starts from.
    """
    warn, teacher, student = runner.logger.warning, distiller.teacher, distiller.student
    sizes = [
        sum(parameter.numel() for parameter in model.get_submodule('backbone').parameters())
        for model in (teacher, student)
    ]
    if sizes[0] < MUCH_SMALLER * sizes[1]:
        warn(
            f'the teacher has fewer parameters than the student ({sizes[0] / 1e6:.3g} M and {sizes[1] / 1e6:.3g} M in the '
            'backbone): are model.teacher and model.student swapped?'
        )
    own, theirs = student.state_dict(), teacher.state_dict()
    if own.keys() == theirs.keys() and all(torch.equal(own[name], theirs[name]) for name in own):
        warn(
            'the student is the teacher: the same network with the same weights, so there is nothing to learn; give '
            'model.student another architecture, or another start (model.student_checkpoint, model.init_from_teacher)'
        )
    norms = [module for module in teacher.modules() if isinstance(module, _BatchNorm) and module.track_running_stats]
    if norms and not any(norm.running_mean.any() or (norm.running_var != 1).any() for norm in norms):
        warn(
            'the teacher never saw an image: the statistics of all its batch normalization layers are those before training; '
            'does model.teacher_checkpoint name its trained weights?'
        )


@torch.no_grad()
def check_features(
    runner: Runner, distiller: StagewiseDistiller, phases: Sequence[Phase], inputs: torch.Tensor
) -> None:
    """Warn of stages in which the teacher gives the same feature everywhere, which teaches nothing.

    Args:
        runner, distiller, phases: Of the run.
        inputs: Some preprocessed images.
    """
    mimicked = sorted({stage for phase in phases for stage in phase.mimic}, key=list(distiller.stages).index)
    for name, feature in distiller.teacher_features(inputs, mimicked).items():
        flat = [tensor for tensor in feature if _is_flat(tensor)]
        if flat:
            runner.logger.warning(
                f"stage {name}: the teacher's feature is constant over images and places, so there is nothing to follow; do "
                'model.teacher_checkpoint and the preprocessing belong to this teacher?'
            )


def _is_flat(feature: torch.Tensor) -> bool:
    feature = feature.double()
    energy = feature.square().mean()
    return bool(channel_variance(feature) <= FLAT * energy) or not bool(energy > 0)


# -- task metrics ------------------------------------------------------------------------------------------------------


class Answers:
    """Counts of the classes that are predicted, and that are right, in data samples of classification; others are left out.

    Example:
        >>> answers = Answers()
        >>> answers.predicted.update([3] * 19 + [4])
        >>> answers.right.update(range(10))
        >>> answers.constant()
        'predicts the same class, 3, for 95% of the images'
    """

    def __init__(self):
        self.predicted: Counter[int] = Counter()
        self.right: Counter[int] = Counter()

    def update(self, samples: Sequence) -> None:
        """Count a batch of data samples."""
        for sample in samples:
            predicted, right = getattr(sample, 'pred_label', None), getattr(sample, 'gt_label', None)
            if predicted is not None and right is not None and predicted.numel() == right.numel() == 1:
                self.predicted[int(predicted)] += 1
                self.right[int(right)] += 1

    def constant(self) -> str | None:
        """Say which class is predicted nearly always; None where none is, or most images are of that class."""
        if not self.predicted:
            return None
        label, count = self.predicted.most_common(1)[0]
        share, true = count / self.predicted.total(), self.right[label] / self.right.total()
        if share < ALWAYS or true > share / 2:
            return None
        return f'predicts the same class, {label}, for {share:.0%} of the images'


def at_chance(metrics: Mapping[str, float], dataset: Sized, classes: int) -> str | None:
    """Say which of these task metrics is not better than guessing; None where all are, or nobody knows what guessing gives.

    Args:
        metrics: By the names that evaluators of mmpretrain, mmdet and ours give them.
        dataset: What was measured.
        classes: Number of its classes.

    Example:
        >>> at_chance({'accuracy/top1': 11.0}, range(500), classes=10)
        'accuracy/top1 is 11, guessing gives 10'
        >>> at_chance({'accuracy/top1': 90.0}, range(500), classes=10)
        >>> at_chance({'coco/bbox_mAP': 0.001}, range(500), classes=80)
        'coco/bbox_mAP is 0.001, guessing gives 0'
        >>> at_chance({'lfw/accuracy': 0.52}, range(500), classes=0)
        'lfw/accuracy is 0.52, guessing gives 0.5'
    """
    for key, value in metrics.items():
        name, limit, guessing = key.rpartition('/')[2], None, None
        if name == 'top1' and classes > 1:
            guessing = 100 / classes
            limit = guessing + 3 * (guessing * (100 - guessing) / len(dataset)) ** 0.5
        elif name.endswith('mAP') or name == 'AP':
            limit, guessing = NO_AP, 0.0
        elif name in ('accuracy', 'auc'):
            limit, guessing = NO_FACE, 0.5
        if limit is not None and value <= limit:
            return f'{key} is {value:.4g}, guessing gives {guessing:.3g}'
    return None
