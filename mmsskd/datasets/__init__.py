"""Data sets that mmpretrain and mmdet do not have."""

from .cifar_files import CIFARFiles
from .digits import Digits

__all__ = ['CIFARFiles', 'Digits']
