"""Faces cut from photos: by five landmarks with the similarity transform of least squares, or by a box.

Coordinates are (x, y) in pixels, 0 being the center of the first one, except that boxes are measured from its outer edge. Sizes are
(height, width). numpy and OpenCV only.
"""

from collections.abc import Sequence

import cv2
import numpy as np

from ...errors import ConfigError

# InsightFace's template for 112x112 (src/common/face_align.py of deepinsight/insightface): image-left eye, image-right eye, tip of
# the nose, image-left and image-right corner of the mouth
ARC112 = np.array([(38.2946, 51.6963), (73.5318, 51.5014), (56.0252, 71.7366), (41.5493, 92.3655), (70.7299, 92.2041)])
ARC112.flags.writeable = False
LEAST_SPREAD = 1.0  # pixels, root mean square: five points closer than that are none
MOST_ANGLE = 90.0  # degrees
# Most residual, root mean square, as a share of the template's own spread (23.2 pixels of 112). A head of five 3-d points gives at
# most 0.68 in poses to 75 degrees of yaw and 60 of pitch, and 0.77 in profile; with left and right swapped at least 0.78 to 75
# degrees of yaw. In full profile a swap cannot be told.
MOST_RESIDUAL = 0.78
MOST_SAMPLES = 4  # in each direction, for a pixel of a crop


class FaceFailure(ValueError):
    """A face that cannot be cut out: a failure to enrol, to be counted. The message is the reason."""


def template_points(size: tuple[int, int]) -> np.ndarray:
    """Places of the five landmarks in a crop of ``size``: (5, 2) of float64.

    112x112 is InsightFace's template; other squares scale it, but in multiples of 128 the face has the scale of 1/128 and lies
    8/128 further right, as InsightFace's own do. Other crops, such as SphereFace's 112x96, are the middle of the square.
    """
    side = max(size)
    square = (ARC112 + (8, 0)) * (side / 128) if side % 128 == 0 else ARC112 * (side / 112)
    return square + ((size[1] - side) / 2, (size[0] - side) / 2)


def similarity(src: np.ndarray, dst: np.ndarray) -> np.ndarray:
    """The rotations, scales and shifts that bring points closest to others, by least squares; never a reflection.

    In closed form: with both sets centered and points as complex numbers, rotation and scale are ``sum(conj(s) d) / sum(|s|^2)``.
    Equal to Umeyama's solution (IEEE TPAMI 13(4), 1991) in two dimensions.

    Args:
        src: (N, K, 2), or (K, 2).
        dst: (K, 2), or (N, K, 2).

    Returns:
        (N, 2, 3) of float64, or (2, 3): matrices for ``cv2.warpAffine``; NaN where all points of ``src`` coincide or one is
        not finite.
    """
    src, dst = _complex(src), _complex(dst)
    with np.errstate(invalid='ignore', divide='ignore'):
        src_mean, dst_mean = src.mean(-1, keepdims=True), dst.mean(-1, keepdims=True)
        centered = src - src_mean
        turn = (centered.conj() * (dst - dst_mean)).sum(-1) / (centered.real**2 + centered.imag**2).sum(-1)
        shift = dst_mean[..., 0] - turn * src_mean[..., 0]
    matrices = np.empty((*turn.shape, 2, 3))
    matrices[..., 0, 0] = matrices[..., 1, 1] = turn.real
    matrices[..., 1, 0] = turn.imag
    matrices[..., 0, 1] = -turn.imag
    matrices[..., 0, 2], matrices[..., 1, 2] = shift.real, shift.imag
    return matrices


def _complex(points: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(points, np.float64).view(np.complex128)[..., 0]


def find_flaws(landmarks: np.ndarray, matrices: np.ndarray, template: np.ndarray) -> np.ndarray:
    """Find the reasons for which faces cannot be aligned by their landmarks.

    Args:
        landmarks: (N, 5, 2).
        matrices: (N, 2, 3), what ``similarity`` makes of them and of the template.
        template: (5, 2).

    Returns:
        (N,) of str: the first of these that holds, ``''`` where the landmarks are sound. A point is NaN or infinite; the points
        coincide; they are far from the shape of a face, as when left and right are swapped; the face would have to be turned by
        more than 90 degrees, that is, it is upside down or its points are in another order.
    """
    finite = np.isfinite(landmarks).all((1, 2))
    points = np.where(finite[:, None, None], landmarks, 0.0)
    spread = np.sqrt(points.var(1).sum(-1))
    turned = points @ matrices[:, :, :2].transpose(0, 2, 1) + matrices[:, None, :, 2]
    residual = np.sqrt(((turned - template) ** 2).sum(-1).mean(-1) / np.var(template, 0).sum())
    angle = np.degrees(np.arctan2(matrices[:, 1, 0], matrices[:, 0, 0]))
    return np.select(
        [~finite, ~(spread >= LEAST_SPREAD), residual > MOST_RESIDUAL, np.abs(angle) > MOST_ANGLE],
        [
            'landmarks are not finite',
            'landmarks coincide',
            'landmarks have no shape of a face',
            'landmarks are upside down',
        ],
        '',
    )


def align_face(
    image: np.ndarray,
    landmarks: np.ndarray,
    size: tuple[int, int],
    template: np.ndarray | None = None,
    antialias: bool = False,
) -> np.ndarray:
    """Cut out the face whose landmarks then lie as closely as possible on the template.

    Args:
        image: (H, W, 3) or (H, W), uint8 or float32.
        landmarks: (5, 2), in the template's order.
        size: Height and width of the crop.
        template: (5, 2), where the landmarks are to lie in the crop; None: ``template_points(size)``.
        antialias: Average several samples a pixel where the photo is larger than the crop. InsightFace takes one, which aliases
            in faces above some 450 pixels, and networks are trained on such crops.

    Returns:
        (height, width, 3) or (height, width), bilinear, black outside of the photo.

    Raises:
        FaceFailure: What ``find_flaws`` finds.
    """
    landmarks = np.asarray(landmarks, np.float64)
    template = template_points(size) if template is None else template
    matrix = similarity(landmarks, template)
    flaw = str(find_flaws(landmarks[None], matrix[None], template)[0])
    if flaw:
        raise FaceFailure(flaw)
    return _warp(image, matrix, size, antialias)


def crop_box(
    image: np.ndarray, box: np.ndarray | tuple[float, ...], scale: float, size: tuple[int, int], antialias: bool = False
) -> np.ndarray:
    """Cut out the square around a box; of a crop that is no square, the middle of it.

    Args:
        image, size, antialias: As for :func:`align_face`.
        box: (4,) x, y, width, height.
        scale: Side of the square in terms of the box's longer side.

    Raises:
        FaceFailure: The box is not finite, empty, or wholly outside of the image.
    """
    x, y, width, height = (float(number) for number in box)
    if not np.isfinite([x, y, width, height]).all() or min(width, height) <= 0:
        raise FaceFailure('the box is empty or not finite')
    if x >= image.shape[1] or y >= image.shape[0] or x + width <= 0 or y + height <= 0:
        raise FaceFailure('the box is outside of the image')
    ratio = max(size) / (scale * max(width, height))
    matrix = np.array([[ratio, 0, 0], [0, ratio, 0]])
    matrix[:, 2] = (np.array(size[::-1]) - 1) / 2 - ratio * (np.array([x + width / 2, y + height / 2]) - 0.5)
    return _warp(image, matrix, size, antialias)


def _warp(image: np.ndarray, matrix: np.ndarray, size: tuple[int, int], antialias: bool) -> np.ndarray:
    height, width = size
    shrink = 1 / np.hypot(matrix[0, 0], matrix[1, 0])
    samples = min(int(np.ceil(shrink - 1e-6)), MOST_SAMPLES) if antialias and shrink > 1 else 1
    matrix = matrix * samples
    matrix[:, 2] += (samples - 1) / 2  # the center of the first pixel is amid its samples
    warped = cv2.warpAffine(image, matrix, (width * samples, height * samples), flags=cv2.INTER_LINEAR, borderValue=0)
    return warped if samples == 1 else cv2.resize(warped, (width, height), interpolation=cv2.INTER_AREA)


def check_size(size: int | Sequence[int], where: str) -> tuple[int, int]:
    """Height and width of a crop, from both or from one number for both.

    Raises:
        ConfigError: Anything else; the message begins with ``where``.
    """
    both = (size, size) if isinstance(size, int) else size
    if not isinstance(both, (tuple, list)) or len(both) != 2 or not all(isinstance(n, int) and n > 0 for n in both):
        raise ConfigError(
            f'{where} must be the height and width of a crop in pixels, or one number for both, found {size!r}'
        )
    return both[0], both[1]
