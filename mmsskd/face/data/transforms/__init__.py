"""Transforms that mmcv and mmpretrain do not have."""

from .align_face import AlignFace

__all__ = ['AlignFace']
