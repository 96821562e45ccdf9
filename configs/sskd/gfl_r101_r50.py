# Stage by stage on COCO: GFL with ResNet-101 teaches GFL with ResNet-50 (anchor-free, multi-scale).
# The backbone, then the FPN, then the heads; 12 epochs in all, as mmdet's 1x.
_base_ = ['mmdet::_base_/datasets/coco_detection.py', '../_base_/sskd_detection_1x.py']

model = dict(
    type='mmsskd.StagewiseDistiller',
    _scope_='mmdet',
    teacher=dict(cfg_path='mmdet::gfl/gfl_r101_fpn_ms-2x_coco.py'),
    teacher_checkpoint=(
        'https://download.openmmlab.com/mmdetection/v2.0/gfl/'
        'gfl_r101_fpn_mstrain_2x_coco/gfl_r101_fpn_mstrain_2x_coco_20200629_200126-dd12f847.pth'
    ),
    # the whole backbone learns: mmdet's defaults keep its stem, first stage and BN statistics as they are
    student=dict(cfg_path='mmdet::gfl/gfl_r50_fpn_1x_coco.py', backbone=dict(frozen_stages=-1, norm_eval=False)),
    stages=['layer1', 'layer2', 'layer3', 'layer4', 'neck'],
)

# as mmdet's GFL, the images in the scales that the teacher has learned from
train_pipeline = [
    dict(type='LoadImageFromFile', _scope_='mmdet'),
    dict(type='LoadAnnotations', _scope_='mmdet', with_bbox=True),
    dict(type='RandomResize', _scope_='mmdet', scale=[(1333, 480), (1333, 800)], keep_ratio=True),
    dict(type='RandomFlip', _scope_='mmdet', prob=0.5),
    dict(type='PackDetInputs', _scope_='mmdet'),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
optim_wrapper = dict(optimizer=dict(lr=0.01))
