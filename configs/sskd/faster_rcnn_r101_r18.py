# Stage by stage on COCO: Faster R-CNN with ResNet-101 teaches Faster R-CNN with ResNet-18, through adapters.
# The recipe that did best on digits on photos for a pair that needs adapters (docs/results.md), at the same shares of the epochs:
# the backbone and the FPN follow the teacher's FPN, then everything learns from boxes too, with the teacher's heads to begin with.
# 12 epochs in all, as mmdet's 1x.
_base_ = ['mmdet::_base_/datasets/coco_detection.py', '../_base_/sskd_detection_1x.py']

model = dict(
    type='mmsskd.StagewiseDistiller',
    _scope_='mmdet',
    teacher=dict(cfg_path='mmdet::faster_rcnn/faster-rcnn_r101_fpn_1x_coco.py'),
    teacher_checkpoint=(
        'https://download.openmmlab.com/mmdetection/v2.0/faster_rcnn/'
        'faster_rcnn_r101_fpn_1x_coco/faster_rcnn_r101_fpn_1x_coco_20200130-f513f705.pth'
    ),
    # the whole backbone learns: mmdet's defaults keep its stem, first stage and BN statistics as they are
    student=dict(
        cfg_path='mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py',
        backbone=dict(
            depth=18,
            frozen_stages=-1,
            norm_eval=False,
            init_cfg=dict(type='Pretrained', checkpoint='torchvision://resnet18'),
        ),
        neck=dict(in_channels=[64, 128, 256, 512]),
    ),
    stages=['layer1', 'layer2', 'layer3', 'layer4', 'neck'],
    init_from_teacher='head',
)
default_hooks = dict(
    stage_schedule=dict(
        phases=[
            dict(train='stages', epochs=2),  # each stage by its own loss
            dict(name='fpn', train='stages', mimic='neck', epochs=4),
            dict(train='all', mimic='neck', task_loss=True, epochs=6),
        ]
    )
)
