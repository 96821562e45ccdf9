# Stage by stage on COCO with one stage, backbone and FPN together, and one phase: PKD (https://arxiv.org/abs/2207.02039).
# Faster R-CNN with ResNet-101 teaches Faster R-CNN with ResNet-50: its FPN follows the teacher's while everything learns from boxes
# from the first step on. 12 epochs in all, as mmdet's 1x.
_base_ = ['mmdet::_base_/datasets/coco_detection.py', '../_base_/sskd_detection_1x.py']

model = dict(
    type='mmsskd.StagewiseDistiller',
    _scope_='mmdet',
    teacher=dict(cfg_path='mmdet::faster_rcnn/faster-rcnn_r101_fpn_1x_coco.py'),
    teacher_checkpoint=(
        'https://download.openmmlab.com/mmdetection/v2.0/faster_rcnn/'
        'faster_rcnn_r101_fpn_1x_coco/faster_rcnn_r101_fpn_1x_coco_20200130-f513f705.pth'
    ),
    # as it is, with the stem and the first stage of ImageNet kept
    student=dict(cfg_path='mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py'),
    stages=['neck'],
    mimic_loss=dict(type='mmsskd.PKDLoss', loss_weight=30),  # the paper's 6 for each of five levels
)
default_hooks = dict(stage_schedule=dict(phases=[dict(train='all', mimic='neck', task_loss=True, epochs=12)]))
