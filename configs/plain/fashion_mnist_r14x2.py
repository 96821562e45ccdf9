# ResNet-14 of double width on Fashion-MNIST, trained plainly.
_base_ = [
    '../_base_/models/cifar_resnet.py',
    '../_base_/datasets/fashion_mnist.py',
    '../_base_/schedules/fashion_mnist_20e.py',
    '../_base_/default_runtime.py',
]

model = dict(backbone=dict(depth=14, width=2, in_channels=1), head=dict(num_classes=10, in_channels=128))
