"""Cut a face from its photo."""

from collections.abc import Sequence

import numpy as np
from mmcv.transforms import BaseTransform

from ....errors import ConfigError
from ....registry import TRANSFORMS
from ..alignment import FaceFailure, align_face, check_size, crop_box, template_points


@TRANSFORMS.register_module()
class AlignFace(BaseTransform):
    """Cut a face from its photo by five landmarks, or without them by its box.

    ``aligned_by`` in the results says how, so that an evaluation can count it. ``'landmarks'``; ``'box'``, the square around
    the box; ``'image'``, where neither is known: the whole image, which then should be an aligned crop. Its longer side gets
    the crop's longer side and the middle stays the middle, so an aligned 112x112 becomes the aligned 112x96 and the other way
    round.

    A face that is known by landmarks which no face can have is a failure, not cut out by its box: something is wrong with it.

    Required: ``img``; optional ``landmarks``, (5, 2), and ``box``, (4,) x, y, width, height, in pixels, not finite where unknown.
    Modified: ``img``, ``img_shape``; added: ``aligned_by``; removed: ``landmarks`` and ``box``, which were those of the photo.

    Args:
        size: Height and width of the crop, or one number for both.
        template: ``'arcface'``, InsightFace's five points, or five points (x, y) of one's own, in pixels of the crop.
        fallback: ``'box'``, or None: a face without landmarks is a failure.
        box_scale: Side of the square in terms of the box's longer side.
        antialias: See :func:`~mmsskd.face.data.alignment.align_face`; False is what InsightFace's networks are trained with.

    Raises:
        ConfigError: An argument is none of those above.
        FaceFailure: On use: the landmarks or the box are unusable, or missing with ``fallback=None``. The message is the reason.

    Example:
        >>> photo = dict(img=np.zeros((300, 200, 3), np.uint8), box=np.array([50, 60, 100, 120]))
        >>> face = AlignFace(size=112)(photo)
        >>> face['img'].shape, face['aligned_by']
        ((112, 112, 3), 'box')
    """

    def __init__(
        self,
        size: int | Sequence[int] = 112,
        template: str | Sequence = 'arcface',
        fallback: str | None = 'box',
        box_scale: float = 1.2,
        antialias: bool = False,
    ):
        self.size = check_size(size, 'AlignFace.size')
        if isinstance(template, str):
            if template != 'arcface':
                raise ConfigError(f"AlignFace.template must be 'arcface' or five points, found {template!r}")
            self.template = template_points(self.size)
        else:
            self.template = np.array(template, np.float64)
            if self.template.shape != (5, 2):
                raise ConfigError(f'AlignFace.template must be five points (x, y), found shape {self.template.shape}')
        if fallback not in ('box', None):
            raise ConfigError(f"AlignFace.fallback must be 'box' or None, found {fallback!r}")
        if not box_scale > 0:
            raise ConfigError(f'AlignFace.box_scale must be above 0, found {box_scale!r}')
        self.fallback, self.box_scale, self.antialias = fallback, box_scale, antialias

    def transform(self, results: dict) -> dict:
        image, landmarks, box = results['img'], _known(results, 'landmarks'), _known(results, 'box')
        if landmarks is not None:
            results['img'] = align_face(image, landmarks, self.size, self.template, self.antialias)
            results['aligned_by'] = 'landmarks'
        elif self.fallback is None:
            raise FaceFailure('no landmarks')
        elif box is not None:
            results['img'] = crop_box(image, box, self.box_scale, self.size, self.antialias)
            results['aligned_by'] = 'box'
        else:
            if image.shape[:2] != self.size:
                whole = (0, 0, image.shape[1], image.shape[0])
                results['img'] = crop_box(image, whole, 1, self.size, self.antialias)
            results['aligned_by'] = 'image'
        results['img_shape'] = self.size
        return results

    def __repr__(self) -> str:
        arguments = (
            f'size={self.size}, fallback={self.fallback!r}, box_scale={self.box_scale}, antialias={self.antialias}'
        )
        return f'{type(self).__name__}({arguments})'


def _known(results: dict, key: str) -> np.ndarray | None:
    """Take an entry out of the results; None where it is missing or not finite."""
    value = results.pop(key, None)
    return None if value is None or not np.isfinite(value).all() else value
