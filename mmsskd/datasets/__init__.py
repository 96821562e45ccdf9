"""Data sets that mmpretrain and mmdet do not have."""

from .cifar_files import CIFARFiles
from .collate import stack_images
from .digits import Digits
from .idx_images import IdxImages
from .resident_images import ResidentImages
from .unlabelled_images import UnlabelledImages

__all__ = ['CIFARFiles', 'Digits', 'IdxImages', 'ResidentImages', 'UnlabelledImages', 'stack_images']
