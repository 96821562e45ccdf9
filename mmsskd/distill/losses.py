"""What a training step of a phase computes."""

from collections.abc import Mapping

import torch
from torch import Tensor

from .mimic_loss import AgreementMeter
from .stages import taps_of
from .tap import capture, features_at, with_logits


def phase_losses(model, inputs: Tensor, data_samples: list | None) -> dict:
    """The losses of the current phase, and for each mimicked stage its relative error and cosine, which are only logged.

    Args:
        model: The :class:`~mmsskd.distill.distiller.StagewiseDistiller`, in a phase.
        inputs: The preprocessed batch, (N, C, H, W).
        data_samples: Ground truth; not looked at without task loss.
    """
    phase = model.phase
    if not phase.mimic and not phase.logits:
        return student_outputs(model, inputs, data_samples)[0]
    names, before = phase.mimic, replaced_stages(model, phase)
    with torch.no_grad():  # first: it keeps no activations, the student does
        stages = [model.teacher_stages[name] for name in dict.fromkeys([*names, *before])]
        teacher = features_at(model.teacher, inputs, taps_of(stages), model.logits.teacher if phase.logits else None)
        replace = {model.stages[name].tap: _output(model, name, teacher) for name in before}
    losses, student = student_outputs(model, inputs, data_samples, replace)
    for name in names:
        own, theirs = model.comparable(model.adapt(name, student), model.teacher_stages[name].feature(teacher))
        losses[f'loss_mimic_{name}'] = model.mimic_loss_of(name)(own, theirs)
        meter = AgreementMeter()
        meter.update(own, theirs)
        losses[f'relative_error_{name}'], losses[f'cosine_{name}'] = meter.compute()
    if phase.logits:
        losses['loss_logits'] = model.logits_loss(student[model.logits.student][0], teacher[model.logits.teacher][0])
    return losses


def student_outputs(
    model, inputs: Tensor, data_samples: list | None, replace: Mapping[str, Tensor] | None = None
) -> tuple[dict, dict[str, tuple[Tensor, ...]]]:
    """Run the student as far as the phase needs it.

    Returns:
        Its own losses, weighted, where the phase has the task loss; and the outputs at its taps.
    """
    phase, student = model.phase, model.student
    taps, logits = taps_of(model.stages[name] for name in phase.mimic), model.logits.student if phase.logits else None
    taps = {**dict.fromkeys(replace or ()), **taps}
    if not phase.task_loss:
        return {}, features_at(student, inputs, taps, logits, replace)
    with capture(student, with_logits(taps, logits)) as outputs:
        losses = dict(student(inputs, data_samples, mode='loss'))
    if phase.task_weight != 1:
        losses = {key: _times(phase.task_weight, value) if 'loss' in key else value for key, value in losses.items()}
    return losses, outputs


def replaced_stages(model, phase) -> list[str]:
    """Stages whose output the teacher's takes the place of, in a phase with its prefix.

    All before the last mimicked one, for a stage may get more than the output of the one before, as a feature pyramid does.
    """
    order = list(model.stages)
    return order[: order.index(phase.mimic[-1])] if phase.prefix == 'teacher' else []


def _output(model, name: str, outputs: dict[str, tuple[Tensor, ...]]) -> Tensor:
    """What the teacher's stage gives to the next, as a copy: the student's next layer may work in place on it."""
    stage = model.teacher_stages[name]
    (feature,) = stage.feature(outputs)
    feature = feature.clone()
    return feature if stage.activation is None else model.teacher.get_submodule(stage.activation)(feature)


def _times(weight: float, loss):
    """A loss, or the list of losses that models of mmdet return under one name."""
    return [weight * item for item in loss] if isinstance(loss, (list, tuple)) else weight * loss
