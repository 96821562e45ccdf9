# ResNet-14 of double width on scikit-learn's digits, trained plainly; the teacher of the demo.
_base_ = [
    '../_base_/models/cifar_resnet.py',
    '../_base_/datasets/digits.py',
    '../_base_/default_runtime.py',
    '../_base_/schedules/digits_48e.py',
]

model = dict(backbone=dict(depth=14, width=2, in_channels=1), head=dict(num_classes=10, in_channels=128))
train_cfg = dict(max_epochs=32)
default_hooks = dict(checkpoint=dict(interval=32))
