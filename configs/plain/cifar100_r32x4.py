# ResNet-32x4 on CIFAR-100, trained plainly.
_base_ = [
    '../_base_/models/cifar_resnet.py',
    '../_base_/datasets/cifar100.py',
    '../_base_/schedules/cifar100_240e.py',
    '../_base_/default_runtime.py',
]

model = dict(backbone=dict(depth=32, width=4, stem_channels=32), head=dict(in_channels=256))
