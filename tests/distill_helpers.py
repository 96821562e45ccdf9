"""A distiller without a Runner, and a phase to put it into."""

import torch
from helpers import classifier, parse_phases
from mmengine.registry import MODELS

IMAGES = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))


def build(teacher_checkpoint, *, teacher=None, student=None, **kwargs):
    model = dict(
        type='mmsskd.StagewiseDistiller',
        teacher=teacher or classifier(),
        teacher_checkpoint=str(teacher_checkpoint),
        student=student or classifier(depth=8),
        input_shape=(1, 8, 8),
    )
    torch.manual_seed(0)
    return MODELS.build(dict(model, **kwargs))


def phase(model, **cfg):
    model.set_phase(
        parse_phases(
            [dict(epochs=1, **cfg)], list(model.stages), 'epochs', optim_wrapper=dict(optimizer=dict(type='SGD'))
        )[0]
    )
    return model


def samples():
    """Ground truth of IMAGES."""
    from mmpretrain.structures import DataSample

    return [DataSample().set_gt_label(i) for i in range(len(IMAGES))]
