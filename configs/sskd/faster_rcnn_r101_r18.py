# Stage by stage on COCO: Faster R-CNN with ResNet-101 teaches Faster R-CNN with ResNet-18, through adapters.
# The recommended recipe of digits on photos for a pair that needs adapters (docs/results.md), at the same shares of the epochs:
# the backbone and the FPN follow the teacher's FPN, then everything learns from boxes too, with the teacher's heads to begin with.
# 12 epochs in all, as mmdet's 1x.
_base_ = './faster_rcnn_r101_r50.py'

model = dict(
    student=dict(
        backbone=dict(depth=18, init_cfg=dict(type='Pretrained', checkpoint='torchvision://resnet18')),
        neck=dict(in_channels=[64, 128, 256, 512]),
    ),
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
