# MobileNetV1 on ImageNet-1k, trained plainly: 100 epochs at batch 256, as the distillation field trains it (arXiv 1904.01866).
_base_ = [
    'mmpretrain::_base_/datasets/imagenet_bs32.py',
    'mmpretrain::_base_/schedules/imagenet_bs256.py',
    '../_base_/default_runtime.py',
]

model = dict(
    type='ImageClassifier',
    _scope_='mmpretrain',
    backbone=dict(type='mmsskd.MobileNetV1'),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(
        type='LinearClsHead', num_classes=1000, in_channels=1024, loss=dict(type='CrossEntropyLoss'), topk=(1, 5)
    ),
)
