"""Networks that mmpretrain and mmdet lack."""

from .cifar_resnet import CIFARResNet

__all__ = ['CIFARResNet']
