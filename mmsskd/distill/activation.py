"""Features in front of the activation in which a stage ends, as in https://arxiv.org/abs/1904.01866 (section 3)."""

from dataclasses import replace

import torch
from torch import Tensor, nn

from ..errors import ConfigError
from .stages import Stage
from .tap import features_at
from .trace import as_found

NO_ACTIVATIONS = ('MultiheadAttention', 'Softmax', 'Softmin', 'Softmax2d', 'LogSoftmax', 'GLU')
OF_OPENMMLAB = ('Swish', 'HSwish', 'HSigmoid', 'Clip', 'Clamp', 'ClippedReLU')


def before_activation(model: nn.Module, stage: Stage, inputs: Tensor, side: str) -> Stage:
    """``stage`` with the input of its last activation as its feature.

    Args:
        model: Holds the stage; left as it was found.
        stage: As cut by :func:`~mmsskd.distill.stages.find_stages`.
        inputs: A batch that the model accepts.
        side: ``'student'`` or ``'teacher'``, for messages.

    Raises:
        ConfigError: The tap does not return what an activation module in it made last.
    """
    tap = model.get_submodule(stage.tap)
    calls: list[str] = []
    handles = [
        module.register_forward_pre_hook(lambda module, args, path=path: calls.append(path))
        for name, module in tap.named_modules()
        if is_activation(module)
        for path in [f'{stage.tap}.{name}' if name else stage.tap]
    ]
    try:
        with as_found(model), torch.no_grad():
            output = features_at(model, inputs, [stage.tap])[stage.tap]
            ends = bool(calls) and stage.single
            if ends:
                feature = features_at(model, inputs, {stage.tap: calls[-1]})[stage.tap][0]
                ends = torch.equal(model.get_submodule(calls[-1])(feature), output[0])
    finally:
        for handle in handles:
            handle.remove()
    if not ends:
        raise ConfigError(
            f'model.pre_activation: stage {stage.name!r} of the {side} ({stage.tap}) does not end in an activation module; name '
            'stages that do, or leave pre_activation out'
        )
    return replace(stage, activation=calls[-1])


def is_activation(module: nn.Module) -> bool:
    """Whether a module is an element-wise non-linearity."""
    kind = type(module)
    known = kind.__module__ == nn.ReLU.__module__ and kind.__name__ not in NO_ACTIVATIONS
    return known or kind.__name__ in OF_OPENMMLAB
