"""A student's head that begins as the teacher's."""

import torch
from torch import Tensor

from .distiller import StagewiseDistiller
from .phase import HEAD


def head_state(distiller: StagewiseDistiller) -> dict[str, Tensor]:
    """The student's head: the parameters and buffers that no stage owns, under their own names."""
    parts = set(distiller.modules_of(HEAD)) | {''}
    state = distiller.student.state_dict()
    return {name: value for name, value in state.items() if name.rpartition('.')[0] in parts}


def head_mismatch(distiller: StagewiseDistiller) -> list[str]:
    """Why the teacher's head cannot be the student's: names and shapes that differ; empty where it can."""
    theirs, problems = distiller.teacher.state_dict(), []
    for name, own in head_state(distiller).items():
        if name not in theirs:
            problems.append(f'{name} (not in the teacher)')
        elif theirs[name].shape != own.shape:
            problems.append(f'{name} {tuple(own.shape)} (teacher: {tuple(theirs[name].shape)})')
    return problems


@torch.no_grad()
def copy_head_from_teacher(distiller: StagewiseDistiller) -> None:
    """Copy the teacher's weights and buffers into the student's head."""
    theirs = distiller.teacher.state_dict()
    for name, own in head_state(distiller).items():
        own.copy_(theirs[name])
