"""The teacher: built and loaded once, outside every parameter tree."""

import torch
from mmengine.config import ConfigDict
from mmengine.logging import print_log
from torch import nn

from ..errors import ConfigError
from .model_cfg import build_model, load_strictly, resolve_model_cfg

NORMALISATION = ('mean', 'std', 'to_rgb', 'bgr_to_rgb', 'rgb_to_bgr')


def build_teacher(spec: str | dict, checkpoint: str | None) -> tuple[nn.Module, ConfigDict]:
    """Build the teacher and load its weights strictly; returns it in eval mode without gradients, and its config.

    Raises:
        ConfigError: No checkpoint is named, or it does not fit; the message lists the keys.
    """
    cfg = resolve_model_cfg(spec, 'teacher')
    if not checkpoint:
        raise ConfigError('model.teacher_checkpoint is not set; name the file or URL of its weights')
    teacher = build_model(without_init(cfg))
    load_strictly(teacher, checkpoint, 'model.teacher_checkpoint')
    teacher.eval().requires_grad_(False)
    count = sum(parameter.numel() for parameter in teacher.parameters()) / 1e6
    print_log(f'teacher: {type(teacher).__name__}, {count:.2f} M parameters, from {checkpoint}', logger='current')
    return teacher, cfg


def without_init(cfg):
    """A copy of a model config in which nothing asks for pretrained weights: they would be fetched only to be overwritten."""
    if isinstance(cfg, dict):
        kept = {
            key: without_init(value)
            for key, value in cfg.items()
            if not (key == 'init_cfg' and isinstance(value, dict) and value.get('type') == 'Pretrained')
            and not (key == 'pretrained' and isinstance(value, str))
        }
        return ConfigDict(kept)
    if isinstance(cfg, (list, tuple)):
        return type(cfg)(without_init(item) for item in cfg)
    return cfg


def check_same_normalisation(teacher_cfg: dict, student: nn.Module, teacher: nn.Module) -> None:
    """Both networks see one batch, normalised once by the student's preprocessor: the teacher must expect the same.

    A teacher config without a ``data_preprocessor`` of its own expects what the student gets.

    Raises:
        ConfigError: The two differ in mean, standard deviation or channel order.
    """
    if not teacher_cfg.get('data_preprocessor'):
        return

    def settings(model):
        preprocessor = model.data_preprocessor
        values = {key: getattr(preprocessor, key, None) for key in NORMALISATION}
        values['to_rgb'] = values['to_rgb'] or bool(getattr(preprocessor, '_channel_conversion', False))
        return {key: value.flatten().tolist() if torch.is_tensor(value) else value for key, value in values.items()}

    ours, theirs = settings(student), settings(teacher)
    if ours != theirs:
        different = [
            f'{key}: student {ours[key]}, teacher {theirs[key]}' for key in NORMALISATION if ours[key] != theirs[key]
        ]
        raise ConfigError(
            'teacher and student expect differently normalised images, but both see the same batch. '
            + '; '.join(different)
            + '. Use networks trained with one data_preprocessor; if the teacher was in fact trained with that of the student, '
            'say so in model.teacher.data_preprocessor.'
        )
