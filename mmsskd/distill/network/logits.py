"""Logits: the module of both networks that gives them, named in the config and tried before training."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ...errors import ConfigError, candidates
from .forward import as_found, features_at, parameters_behind


@dataclass(frozen=True, kw_only=True)
class Logits:
    """The module whose outputs are the logits.

    Attributes:
        module: Its path in both networks, for instance ``head.fc``.
        reached: Names of the student's parameters that its logits depend on.
    """

    module: str
    reached: frozenset[str]


def find_logits(student: nn.Module, teacher: nn.Module, path: str, input_shape) -> Logits:
    """Run both networks on two images and look at the outputs of the module named.

    Args:
        student, teacher: Models whose ``mode='tensor'`` forward runs the module; left as they were found.
        path: Module path in both.
        input_shape: (channels, height, width) of an image.

    Raises:
        ConfigError: No such module, it does not run, or the two do not give (N, K) of the same K.
    """
    inputs = torch.randn(2, *input_shape, generator=torch.Generator().manual_seed(0))
    with as_found(student, teacher):
        student_logits = _output(student, path, inputs, 'student')
        teacher_logits = _output(teacher, path, inputs, 'teacher')
        behind = parameters_behind((student_logits,))
        reached = frozenset(name for name, parameter in student.named_parameters() if id(parameter) in behind)
    if student_logits.shape != teacher_logits.shape:
        raise ConfigError(
            f'model.logits: {path!r} of the student has {student_logits.shape[1]} classes, that of the teacher '
            f'{teacher_logits.shape[1]}; give both heads the same num_classes'
        )
    return Logits(module=path, reached=reached)


def _output(model: nn.Module, path: str, inputs: Tensor, who: str) -> Tensor:
    paths = [name for name, _ in model.named_modules() if name]
    if path not in paths:
        raise ConfigError(
            f'model.logits: the {who}, {type(model).__name__}, has no module {path!r}; {candidates(str(path), paths)}'
        )
    try:
        tensors = features_at(model, inputs, (), logits=path).get(path, ())
    except Exception as error:
        raise ConfigError(
            f"model.logits: {type(model).__name__} does not run with mode='tensor' on an input of shape {tuple(inputs.shape)}: "
            f'{error}'
        ) from error
    shapes = [tuple(tensor.shape) for tensor in tensors]
    if len(shapes) != 1 or len(shapes[0]) != 2 or shapes[0][0] != len(inputs):
        found = ' + '.join(map(str, shapes)) or "nothing: it does not run with mode='tensor'"
        raise ConfigError(
            f'model.logits: {path!r} of the {who} must give logits of shape (N, classes), for {len(inputs)} images it gave '
            f'{found}; name the layer after which only the softmax comes'
        )
    return tensors[0]
