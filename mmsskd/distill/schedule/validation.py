"""Validation beside the task metric of the student: features of the stages, student and teacher stitched, the teacher once."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence, Sized
from contextlib import contextmanager
from numbers import Real

import torch
from mmengine.dist import all_reduce_params
from mmengine.hooks import CheckpointHook, EarlyStoppingHook
from mmengine.runner import Runner
from torch import Tensor

from ...errors import ConfigError, candidates
from ..build import predicts_nothing
from ..distiller import StagewiseDistiller
from ..losses import AgreementMeter
from ..network.forward import feature_tensors, features_at, with_tensors
from ..network.stages import Stage, taps_of
from .data_checks import classes_of_task, other_classes, other_order
from .mmengine_private import forget

ALWAYS = 0.9  # share of images of one predicted class from which on predictions count as constant
NO_AP = 0.01  # average precision, from 0 to 1, of a detector that finds nothing
NO_FACE = 0.55  # accuracy or area under the curve of comparing faces; 0.5 is guessing


@torch.no_grad()
def validate_features(
    runner: Runner, distiller: StagewiseDistiller, stages: tuple[str, ...], learned: tuple[str, ...] = ()
) -> dict[str, float]:
    """Relative error and cosine of ``stages`` over the whole validation set and all ranks.

    Args:
        runner: Has the validation set and the evaluator.
        distiller: The model.
        stages: Those that are mimicked.
        learned: Those with which the teacher is stitched, see :func:`stitched`, in the same pass.

    Returns:
        ``{'val/relative_error_<stage>': ..., 'val/cosine_<stage>': ...}``, and ``'val/stitched_<metric>_<stage>'`` with the last
        of ``learned`` where the teacher predicts what the evaluator measures.
    """
    loop = runner.val_loop
    distiller.eval()
    meters = {name: AgreementMeter() for name in stages}
    if learned and no_metric(runner, distiller) is not None:
        learned = ()
    reasons: list[str] = []
    with _measuring(runner, 'stitched'):
        for data in loop.dataloader:
            batch = distiller.data_preprocessor(data, False)
            for name, features in distiller.compare(batch['inputs'], stages).items():
                meters[name].update(*features)
            if learned and not reasons:
                with stitched(distiller, learned) as reasons, _precision(runner, distiller):
                    outputs = distiller.teacher(**batch, mode='predict')
                if not reasons:
                    loop.evaluator.process(data_samples=outputs, data_batch=data)
        metrics = loop.evaluator.evaluate(len(loop.dataloader.dataset)) if learned and not reasons else {}
    distiller.train()
    values: dict[str, float] = {}
    for name, meter in meters.items():
        error, cosine = meter.compute(over_ranks=True)
        values |= {f'val/relative_error_{name}': error.item(), f'val/cosine_{name}': cosine.item()}
    if reasons:
        runner.logger.warning(f'no stitched metric of stage {learned[-1]!r}: {reasons[0]}')
    tails = [key.rpartition('/')[2] for key in metrics]
    for key, value in _numbers(metrics).items():
        tail = key.rpartition('/')[2]
        name = tail if tails.count(tail) == 1 else key.replace('/', '_')
        values[f'val/stitched_{name}_{learned[-1]}'] = value
    return values


def no_metric(runner: Runner, distiller: StagewiseDistiller) -> str | None:
    """Say why the evaluator has nothing to measure of the teacher; None where it has."""
    teacher, dataset = distiller.teacher, runner.val_loop.dataloader.dataset
    reason = predicts_nothing(teacher) or other_classes(teacher, dataset)
    return reason or other_order(distiller.teacher_classes, dataset)


def measure_teacher(runner: Runner, distiller: StagewiseDistiller) -> None:
    """Evaluate the teacher once, log it and keep it for the comparisons to come; a resumed run has it from its checkpoint."""
    hub, teacher = runner.message_hub, distiller.teacher
    dataset = runner.val_loop.dataloader.dataset
    reason = no_metric(runner, distiller)
    if reason is not None:
        runner.logger.warning(f'the teacher is not evaluated: {reason}; its features serve all the same')
        return
    if 'teacher_metrics' not in hub.runtime_info:
        metrics = evaluate_teacher(runner, distiller)
        hub.update_info('teacher_metrics', metrics)
        runner.visualizer.add_scalars({f'teacher/{key}': value for key, value in metrics.items()}, step=0)
    metrics = hub.get_info('teacher_metrics')
    check_watched(runner, metrics)
    runner.logger.info(f'teacher on the validation set: {show(metrics)}')
    guesses = at_chance(metrics, dataset, classes_of_task(teacher, dataset))
    if guesses:
        runner.logger.warning(
            f'the teacher is at chance on the validation set: {guesses}. Its features may teach nothing: does '
            'model.teacher_checkpoint name its trained weights, is its preprocessing that of its training, and do the labels of '
            'val_dataloader mean the same classes in the same order?'
        )


def check_watched(runner: Runner, metrics: Mapping) -> None:
    """Refuse hooks that look for a metric that there is not: stock ones fail, or do nothing, at the first validation.

    Args:
        runner: Its hooks are those of MMEngine that keep the best checkpoint, and that stop early.
        metrics: Of the teacher, by the evaluator of the run: the student will have the same.

    Raises:
        ConfigError: With near names.
    """
    for hook in runner.hooks:
        if isinstance(hook, CheckpointHook):
            names, key = [*(getattr(hook, 'key_indicators', None) or ())], 'CheckpointHook.save_best'
        elif isinstance(hook, EarlyStoppingHook):
            names, key = [hook.monitor], 'EarlyStoppingHook.monitor'
        else:
            continue
        for name in names:
            if name not in metrics and name != 'auto':
                raise ConfigError(f'{key}: no metric {name!r} is measured; {candidates(name, metrics)}')


def check_student(runner: Runner, distiller: StagewiseDistiller, metrics: dict, position: str) -> None:
    """Warn of a student that has not learned the task at the end of a phase that teaches it."""
    dataset = runner.val_loop.dataloader.dataset
    guesses = at_chance(metrics, dataset, classes_of_task(distiller.student, dataset))
    if guesses:
        runner.logger.warning(
            f'{position}: the student is at chance on the validation set: {guesses}. Likely causes: training labels that mean '
            'other classes than those of validation, images that are prepared otherwise, or a phase too short'
        )


def show(metrics: dict) -> str:
    """Metrics on one line; one that is no number, such as a list by class, as it stands."""
    return '  '.join(
        f'{key}: {value:.4f}' if isinstance(value, Real) else f'{key}: {value}' for key, value in metrics.items()
    )


@torch.no_grad()
def evaluate_teacher(runner: Runner, distiller: StagewiseDistiller) -> dict[str, float]:
    """The teacher's task metrics on the validation set, by the run's own evaluator, without any hook seeing it."""
    loop = runner.val_loop
    runner.model.eval()
    answers = Answers()
    with _measuring(runner, 'teacher'), distiller.predicting_with_teacher():
        for data in loop.dataloader:
            with _precision(runner, distiller):
                outputs = runner.model.val_step(data)
            loop.evaluator.process(data_samples=outputs, data_batch=data)
            answers.update(outputs)
        metrics = loop.evaluator.evaluate(len(loop.dataloader.dataset))
    if answers.constant():
        runner.logger.warning(
            f'the teacher {answers.constant()}, so it teaches little: look at model.teacher_checkpoint and its preprocessing'
        )
    return _numbers(metrics)


@contextmanager
def _measuring(runner: Runner, what: str):
    """Within this context metrics that write files name them by ``what``."""
    runner.message_hub.update_info('measured', what)
    try:
        yield
    finally:
        forget(runner.message_hub, 'measured')


def _precision(runner: Runner, distiller: StagewiseDistiller) -> torch.autocast:
    """The precision of the validation loop."""
    return torch.autocast(next(distiller.parameters()).device.type, enabled=runner.val_loop.fp16)


def _numbers(metrics: dict) -> dict[str, float]:
    return {key: float(value) for key, value in metrics.items() if isinstance(value, Real)}


def average_over_ranks(distiller: StagewiseDistiller) -> None:
    """Make equal on all ranks what each has of its own, and a checkpoint has of the first one: BN statistics and gradients.

    Statistics of what trains are averaged, frozen ones are not touched, to the bit. Gradients differ within a window of
    accumulation; DDP averages them at its end, to the same whether or not they were averaged before.
    """
    modules = distiller.training_modules()
    buffers = [
        buffer
        for path in sorted(modules)
        for buffer in modules[path].buffers(recurse=False)
        if buffer.is_floating_point()
    ]
    trained = [parameter for parameter in distiller.parameters() if parameter.requires_grad]
    gradients = []
    if any(parameter.grad is not None for parameter in trained):
        for parameter in trained:
            if parameter.grad is None:  # on this rank, where another may have one
                parameter.grad = torch.zeros_like(parameter)
            gradients.append(parameter.grad)
    if buffers or gradients:
        all_reduce_params([*buffers, *gradients], op='mean')


# -- the student's stages so far with the rest of the teacher after them -----------------------------------------------


@contextmanager
def stitched(distiller, names: Sequence[str]) -> Iterator[list[str]]:
    """Within this context the teacher goes on from the student's features of the stages ``names``, adapted, instead of its own.

    The task metric of this network says after the first stage already whether the student is on its way.

    The student runs on whatever image the teacher's backbone is given: some models predict from a mirrored one too.

    Args:
        distiller: A :class:`~mmsskd.StagewiseDistiller`.
        names: Of all stages that count as learned: an FPN looks at each of them.

    Yields:
        A list. After a forward it holds the reasons why the two do not make one network; without any it is empty.
    """
    features: dict[str, tuple[Tensor, ...]] = {}
    image: list[int] = []
    stages = {name: distiller.teacher_stages[name] for name in names}
    reasons = [reason for reason in map(_leads_nowhere, stages.values()) if reason]
    taps = taps_of(distiller.stages[name] for name in names)

    def run_student(module, args):
        features.update(features_at(distiller.student, args[0], taps))
        image[:] = args[0].shape[-2:]

    def replace_features(own: dict[str, Stage]):
        def hook(module, args, output):
            tensors = list(feature_tensors(output))
            pairs = [
                (distiller.adapt(name, features), stage.feature({stage.tap: tensors})) for name, stage in own.items()
            ]
            students = [distiller.comparable(*pair, image)[0] for pair in pairs]
            reason = _does_not_fit(' '.join(own), tensors, students, [teacher for _, teacher in pairs])
            if reason:
                reasons.append(reason)
                return None
            for stage, student in zip(own.values(), students):
                for level, value in zip(stage.levels, student):
                    level.put(tensors, value)
            return with_tensors(output, tensors)

        return hook

    teacher = distiller.teacher
    # before the teacher's own input is made
    handles = [teacher.backbone.register_forward_pre_hook(run_student, prepend=True)]
    for tap in taps_of(stages.values()):  # stages may be levels of one neck
        own = {name: stage for name, stage in stages.items() if stage.tap == tap}
        handles.append(teacher.get_submodule(tap).register_forward_hook(replace_features(own)))
    try:
        yield reasons
    finally:
        for handle in handles:
            handle.remove()


def _leads_nowhere(stage: Stage) -> str | None:
    """Say that a stage's feature is not what the teacher goes on from."""
    if stage.beside:
        return f'the feature of stage {stage.name!r} of the teacher stands beside the path to its next stage'
    if stage.calls > 1:
        return f'stage {stage.name!r} of the teacher runs once for each level'
    return None


def _does_not_fit(
    name: str,
    tensors: Sequence[Tensor],
    students: Sequence[tuple[Tensor, ...]],
    teachers: Sequence[tuple[Tensor, ...]],
) -> str | None:
    """Say why the student's features cannot take the place of all that a tap of the teacher gives."""
    own, theirs = sum(students, ()), sum(teachers, ())
    if any(mine.shape != other.shape for mine, other in zip(own, theirs, strict=True)):
        return f'the feature of the student is smaller than that of the teacher in stage {name!r}'
    if sum(map(Tensor.numel, own)) != sum(map(Tensor.numel, tensors)):
        return f'stage {name!r} of the teacher gives more than the student has'
    return None


# -- answers against chance ---------------------------------------------------------------------------------------------


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
