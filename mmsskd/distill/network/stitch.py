"""Stitching: the student's stages so far, and behind them the teacher's remaining ones and its head, as one whole network.

It says after the first stage whether the student is on its way: its task metric is measured like any other model's.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from torch import Tensor

from .forward import feature_tensors, features_at, with_tensors
from .stages import Stage, taps_of


@contextmanager
def stitched(distiller, names: Sequence[str]) -> Iterator[list[str]]:
    """Within this context the teacher goes on from the student's features of the stages ``names``, adapted, instead of its own.

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
    handles = [
        teacher.backbone.register_forward_pre_hook(run_student, prepend=True)
    ]  # before the teacher's own input is made
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
