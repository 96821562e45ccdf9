# Stage by stage on COCO: Faster R-CNN with ResNet-50 teaches Faster R-CNN with MobileNetV2, through adapters.
# The recommended recipe of digits on photos for a pair that needs adapters (docs/results.md), at the same shares of the epochs:
# the backbone and the FPN follow the teacher's FPN, then everything learns from boxes too, with the teacher's heads to begin with.
# 12 epochs in all, as mmdet's 1x.
_base_ = ['mmdet::_base_/datasets/coco_detection.py', '../_base_/sskd_detection_1x.py']

model = dict(
    type='mmsskd.StagewiseDistiller',
    _scope_='mmdet',
    teacher=dict(cfg_path='mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py'),
    teacher_checkpoint=(
        'https://download.openmmlab.com/mmdetection/v2.0/faster_rcnn/'
        'faster_rcnn_r50_fpn_1x_coco/faster_rcnn_r50_fpn_1x_coco_20200130-047c8118.pth'
    ),
    student=dict(
        cfg_path='mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py',
        backbone=dict(
            _delete_=True,
            type='MobileNetV2',
            out_indices=(1, 2, 4, 7),  # strides 4, 8, 16, 32
            norm_cfg=dict(type='BN', requires_grad=True),
            init_cfg=dict(type='Pretrained', checkpoint='open-mmlab://mmdet/mobilenet_v2'),
        ),
        neck=dict(in_channels=[24, 32, 96, 1280]),
    ),
    stages=['layer2', 'layer3', 'layer5', 'layer7', 'neck'],
    init_from_teacher='head',
    teacher_stages=['layer1', 'layer2', 'layer3', 'layer4', 'neck'],
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
