# ResNet-14 of half width on 10,000 images of Fashion-MNIST, trained plainly for a quarter of its teacher's epochs.
_base_ = [
    '../_base_/models/cifar_resnet.py',
    '../_base_/datasets/fashion_mnist_10k.py',
    '../_base_/schedules/fashion_mnist_10k_5e.py',
    '../_base_/default_runtime.py',
]

model = dict(
    backbone=dict(depth=14, width=0.5, stem_channels=8, in_channels=1), head=dict(num_classes=10, in_channels=32)
)
