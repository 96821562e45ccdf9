# ResNet-8 on Fashion-MNIST, trained plainly.
_base_ = [
    '../_base_/models/cifar_resnet.py',
    '../_base_/datasets/fashion_mnist.py',
    '../_base_/schedules/fashion_mnist_20e.py',
    '../_base_/default_runtime.py',
]

model = dict(backbone=dict(depth=8, in_channels=1), head=dict(num_classes=10))
