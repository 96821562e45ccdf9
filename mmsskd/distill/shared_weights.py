"""A student that begins with weights of its teacher."""

import torch
from mmengine.logging import print_log
from torch import Tensor, nn

from ..errors import ConfigError


def shared_weights(student: nn.Module, teacher: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers of ``teacher`` under names that ``student`` has too, with the same shape."""
    own = student.state_dict()
    return {
        name: value for name, value in teacher.state_dict().items() if name in own and own[name].shape == value.shape
    }


def check_shared_weights(student: nn.Module, teacher: nn.Module, student_checkpoint: str | None) -> None:
    """Refuse a start from the teacher that would be none.

    Raises:
        ConfigError: Another start is set too, or no parameter of the student is one of the teacher's.
    """
    if student_checkpoint:
        raise ConfigError(
            'model.student_from_teacher and model.student_checkpoint both say where the student starts; leave one out'
        )
    names = [name for name, _ in student.named_parameters()]
    shared = shared_weights(student, teacher)
    if not any(name in shared for name in names):
        raise ConfigError(
            f'model.student_from_teacher: the teacher has no parameter with the name and shape of one of the student, such as '
            f'{names[0]} {tuple(student.get_parameter(names[0]).shape)}; it needs networks of the same kind and widths'
        )


@torch.no_grad()
def copy_shared_weights(student: nn.Module, teacher: nn.Module) -> None:
    """Copy them into the student, and say how many."""
    shared, own = shared_weights(student, teacher), student.state_dict()
    for name, value in shared.items():
        own[name].copy_(value)
    names = [name for name, _ in student.named_parameters()]
    count = sum(name in shared for name in names)
    print_log(f"student: {count} of {len(names)} parameters start as the teacher's", logger='current')
