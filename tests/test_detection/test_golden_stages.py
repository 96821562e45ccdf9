"""The mimic loss of each stage of a detector, on noise and random weights: a change in these numbers is a change in the method."""

import pytest
import torch
from detection import STAGES, detector, save_detector, scope
from helpers import parse_phases
from mmengine.registry import MODELS

from mmsskd.distill.phases import stage_by_stage

GOLDEN = {'layer1': 7.258143, 'layer2': 8.193103, 'layer3': 8.771767, 'layer4': 13.240162, 'neck': 5.738681}


def test_losses_of_the_stages(tmp_path):
    teacher = save_detector(detector(), tmp_path / 'teacher.pth', seed=1)
    torch.manual_seed(2)
    with scope():
        distiller = MODELS.build(
            dict(
                type='mmsskd.StagewiseDistiller',
                teacher=detector(),
                teacher_checkpoint=teacher,
                student=detector(width=4),
                stages=STAGES,
                input_shape=(3, 64, 64),
                adapter_norm=False,  # what the numbers were taken with
            )
        )
    torch.manual_seed(3)
    distiller.init_weights()
    images = torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(4))
    phases = parse_phases(stage_by_stage(STAGES)[:-1], STAGES, 'iters', dict(iters=1))
    found = {}
    for phase in phases:
        distiller.set_phase(phase)
        distiller.train()
        losses = distiller.loss(images)
        assert set(losses) == {f'{kind}_{phase.name}' for kind in ('loss_mimic', 'relative_error', 'cosine')}
        found[phase.name] = losses[f'loss_mimic_{phase.name}'].item()
    assert found == pytest.approx(GOLDEN, rel=1e-3), repr(found)
