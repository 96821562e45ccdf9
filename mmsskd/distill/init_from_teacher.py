"""A student that starts from weights of its teacher."""

from collections.abc import Mapping, Sequence

import torch
from mmengine.logging import print_log
from torch import Tensor, nn

from ..errors import ConfigError

CHOICES = (None, 'head', 'all')


def weights_from_teacher(
    which: str | None,
    student: nn.Module,
    teacher: nn.Module,
    head: Mapping[str, Tensor],
    student_checkpoint: str | None,
) -> list[str]:
    """Names of the weights that the student takes over from the teacher.

    Args:
        which: ``model.init_from_teacher``: None, ``'head'`` or ``'all'``.
        student, teacher: The models.
        head: Parameters and buffers of the student's head.
        student_checkpoint: Another start of the whole student, if there is one.

    Raises:
        ConfigError: Another start is set too, the heads differ, or no parameter of the student is one of the teacher's.
    """
    if which not in CHOICES:
        raise ConfigError(f"model.init_from_teacher must be None, 'head' or 'all', found {which!r}")
    teacher_state, student_state = teacher.state_dict(), student.state_dict()
    if which is None:
        return []
    if which == 'head':
        problems = [
            f'{name} (not in the teacher)'
            if name not in teacher_state
            else f'{name} {tuple(value.shape)} (teacher: {tuple(teacher_state[name].shape)})'
            for name, value in head.items()
            if name not in teacher_state or teacher_state[name].shape != value.shape
        ]
        if problems:
            raise ConfigError(
                f"model.init_from_teacher='head', but the heads differ: {'; '.join(problems[:5])}. Give both the same head, or "
                'remove init_from_teacher.'
            )
        return list(head)
    if student_checkpoint:
        raise ConfigError(
            "model.init_from_teacher='all' and model.student_checkpoint both say where the student starts; remove one"
        )
    names = [name for name, _ in student.named_parameters()]
    shared = [
        name
        for name, value in teacher_state.items()
        if name in student_state and student_state[name].shape == value.shape
    ]
    if not set(names) & set(shared):
        raise ConfigError(
            "model.init_from_teacher='all': the teacher has no parameter with the name and shape of one of the student, such as "
            f'{names[0]} {tuple(student_state[names[0]].shape)}; it needs networks of the same kind and widths'
        )
    return shared


@torch.no_grad()
def copy_weights(student: nn.Module, teacher: nn.Module, names: Sequence[str], which: str | None) -> None:
    """Copy the teacher's weights of these ``names`` into the student, and log how many."""
    if which is None:
        return
    teacher_state, student_state = teacher.state_dict(), student.state_dict()
    for name in names:
        student_state[name].copy_(teacher_state[name])
    if which == 'all':
        parameters = dict(student.named_parameters())
        count, total = sum(name in parameters for name in names), len(parameters)
        print_log(f"student: {count} of {total} parameters start as the teacher's", logger='current')
    else:
        print_log("the student's head starts as the teacher's", logger='current')
