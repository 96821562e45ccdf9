# ResNet-8 of half width on scikit-learn's digits, trained plainly.
_base_ = [
    '../_base_/models/cifar_resnet.py',
    '../_base_/datasets/digits.py',
    '../_base_/default_runtime.py',
    '../_base_/schedules/digits_48e.py',
]

model = dict(backbone=dict(depth=8, width=0.5, in_channels=1), head=dict(num_classes=10, in_channels=32))
default_hooks = dict(checkpoint=dict(interval=48))
