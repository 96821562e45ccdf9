"""A pair whose necks have levels of different strides: Faster R-CNN (P2 to P6) teaches RetinaNet (P3 to P7)."""

import pytest
import torch
from detection import detection_cfg, detector, save_detector
from helpers import same, train, weights

from mmsskd.distill.build import resolve_model_cfg

pytestmark = pytest.mark.slow


def test_faster_rcnn_to_retinanet(photos, tmp_path):
    """P3 to P6 follow, P7 learns with the head, and each parameter belongs to one phase."""
    teacher = detector(**{'neck.num_outs': 5, 'rpn_head.anchor_generator.strides': [4, 8, 16, 32, 64]})
    student = resolve_model_cfg(
        dict(
            cfg_path='mmdet::retinanet/retinanet_r50_fpn_1x_coco.py',
            data_preprocessor=teacher['data_preprocessor'],
            backbone=dict(teacher['backbone'], base_channels=4, _delete_=True),
            neck=dict(in_channels=[4, 8, 16, 32], out_channels=16),
            bbox_head=dict(num_classes=10, in_channels=16, feat_channels=16, stacked_convs=1),
        ),
        'student',
    )
    cfg = detection_cfg(tmp_path, photos, save_detector(teacher, tmp_path / 'teacher.pth'), teacher=teacher)
    cfg.model.student = student
    cfg.default_hooks.stage_schedule.phases = [
        dict(train='neck'),
        dict(train='head', optim_wrapper=dict(optimizer=dict(type='SGD', lr=1.0))),  # a new head's gradients are small
    ]
    cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None
    model = train(cfg).model
    sizes = [shape[1:] for shape in model.stages['neck'].shapes]
    assert sizes == [shape[1:] for shape in model.teacher_stages['neck'].shapes] == [(8, 8), (4, 4), (2, 2), (1, 1)]
    assert 'neck.fpn_convs.4.conv' in model.modules_of('head') and 'neck.fpn_convs.4.conv.weight' in model.head_state()
    owned = [name for part in (*model.stages, 'head') for name in model.parameters_of(part)]
    assert sorted(owned) == sorted(name for name, _ in model.student.named_parameters())
    before, after = weights(tmp_path / 'phase1_neck.pth'), weights(tmp_path / 'epoch_2.pth')
    assert not torch.equal(before['neck.fpn_convs.4.conv.weight'], after['neck.fpn_convs.4.conv.weight'])
    assert same(before, after, model.parameters_of('neck'))
