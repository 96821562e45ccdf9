"""Faces cut out by landmarks or by box: against scikit-image, against pixels that are known, and what is no face."""

import cv2
import numpy as np
import pytest
from mmengine.registry import TRANSFORMS, DefaultScope

from mmsskd.errors import ConfigError
from mmsskd.face.data.alignment import (
    ARC112,
    FaceFailure,
    align_face,
    crop_box,
    find_flaws,
    similarity,
    template_points,
)
from mmsskd.face.data.transforms import AlignFace


def noisy_faces(count, seed=0, noise=3.0):
    """The template turned, scaled, shifted and disturbed: (count, 5, 2)."""
    rng = np.random.default_rng(seed)
    angle, scale = rng.uniform(-1, 1, count), rng.uniform(0.2, 8, count)
    turn = scale * np.exp(1j * angle)
    points = (ARC112 @ (1, 1j)) * turn[:, None] + rng.uniform(-500, 500, (count, 1)) * (1 + 1j)
    points = np.stack([points.real, points.imag], -1)
    return points + rng.normal(0, noise, points.shape) * scale[:, None, None]


def photo(size=(240, 320), seed=0):
    """Smooth noise, uint8 (H, W, 3)."""
    noise = np.random.default_rng(seed).uniform(0, 255, (*size, 3)).astype(np.uint8)
    return cv2.GaussianBlur(noise, (0, 0), 4)


def apply(matrix, points):
    return points @ matrix[..., :2].swapaxes(-1, -2) + matrix[..., None, :, 2]


def test_similarity_is_that_of_scikit_image():
    from skimage.transform import SimilarityTransform

    faces = noisy_faces(300)
    matrices = similarity(faces, ARC112)
    assert matrices.shape == (300, 2, 3)
    for face, matrix in zip(faces, matrices):
        transform = SimilarityTransform.from_estimate(face, ARC112)
        assert np.abs(transform.params[:2] - matrix).max() < 1e-6
        assert np.array_equal(similarity(face, ARC112), matrix)
        assert np.abs(apply(matrix, face) - transform(face)).max() < 1e-6


def test_similarity_of_mirrored_points_does_not_mirror():
    from skimage.transform import SimilarityTransform

    for face in noisy_faces(20)[:, [1, 0, 2, 4, 3]]:
        matrix = similarity(face, ARC112)
        transform = SimilarityTransform.from_estimate(face, ARC112)
        assert np.linalg.det(matrix[:, :2]) > 0 and np.abs(transform.params[:2] - matrix).max() < 1e-6


def test_no_other_similarity_is_closer():
    face = noisy_faces(1)[0]
    best = similarity(face, ARC112)
    error = ((apply(best, face) - ARC112) ** 2).sum()
    for step in np.random.default_rng(0).normal(0, 1e-3, (200, 4)):
        a, b, x, y = np.array([best[0, 0], best[1, 0], best[0, 2], best[1, 2]]) + step
        assert ((apply(np.array([[a, -b, x], [b, a, y]]), face) - ARC112) ** 2).sum() > error


def test_similarity_takes_float32_views_and_a_target_a_face():
    faces = noisy_faces(4)
    assert np.allclose(similarity(faces.astype(np.float32), ARC112), similarity(faces, ARC112), atol=1e-3)
    assert np.array_equal(similarity(faces[:, :, ::-1][:, :, ::-1], ARC112), similarity(faces, ARC112))
    assert np.allclose(apply(similarity(faces, faces[::-1]), faces).mean(1), faces[::-1].mean(1))
    assert np.isnan(similarity(np.ones((1, 5, 2)), ARC112)).all()


@pytest.mark.parametrize(
    ('size', 'scale', 'first'),
    [
        ((112, 112), 1, (38.2946, 51.6963)),
        ((112, 96), 1, (30.2946, 51.6963)),
        ((224, 224), 2, (76.5892, 103.3926)),
        ((224, 192), 2, (60.5892, 103.3926)),
        ((56, 56), 0.5, (19.1473, 25.84815)),
        ((128, 128), 1, (46.2946, 51.6963)),
        ((256, 256), 2, (92.5892, 103.3926)),
        ((96, 112), 1, (38.2946, 43.6963)),
    ],
)
def test_templates_of_other_sizes(size, scale, first):
    points = template_points(size)
    assert np.allclose(points[0], first) and np.allclose(points - points[0], scale * (ARC112 - ARC112[0]))


def flaw(landmarks):
    landmarks = np.asarray(landmarks, float)[None]
    return str(find_flaws(landmarks, similarity(landmarks, ARC112), ARC112)[0])


def head(yaw, pitch):
    """Five points of a head, in millimetres, seen from yaw and pitch, in degrees."""
    points = np.array([(-31.5, -35, 0), (31.5, -35, 0), (0, 0, 25), (-25, 37, 0), (25, 37, 0)])
    (a, b), (c, d) = ((np.cos(angle), np.sin(angle)) for angle in np.radians([yaw, pitch]))
    points = points @ np.array([[a, 0, b], [0, 1, 0], [-b, 0, a]]).T @ np.array([[1, 0, 0], [0, c, -d], [0, d, c]]).T
    return points[:, :2]


SWAPPED = [1, 0, 2, 4, 3]


def test_faces_of_any_pose_are_sound_and_swapped_ones_are_not():
    for yaw in range(-90, 91, 15):
        for pitch in range(-60, 61, 15):
            assert flaw(head(yaw, pitch) * 0.05 + 300) == '', (yaw, pitch)  # a face of 5 pixels
            if abs(yaw) <= 75:
                assert flaw(head(yaw, pitch)[SWAPPED]) == 'landmarks have no shape of a face', (yaw, pitch)
    faces = noisy_faces(500)
    assert set(find_flaws(faces, similarity(faces, ARC112), ARC112)) == {''}


def test_each_flaw_has_its_reason():
    nan, infinite, upside_down = ARC112.copy(), ARC112.copy(), 200 - ARC112
    nan[2, 1], infinite[0, 0] = np.nan, np.inf
    assert flaw(nan) == flaw(infinite) == 'landmarks are not finite'
    assert flaw(np.full((5, 2), 7.0)) == flaw(np.zeros((5, 2))) == flaw(ARC112 * 0.01) == 'landmarks coincide'
    assert flaw(upside_down) == 'landmarks are upside down'
    assert flaw(ARC112[SWAPPED]) == flaw(ARC112[[2, 3, 4, 0, 1]]) == 'landmarks have no shape of a face'
    batch = np.stack([ARC112, nan, upside_down])
    assert find_flaws(batch, similarity(batch, ARC112), ARC112).tolist() == [
        '', 'landmarks are not finite', 'landmarks are upside down'
    ]  # fmt: skip


def test_landmarks_land_on_the_template():
    """Bright dots at the landmarks of a turned face are at the template's points in the crop."""
    for angle in (-60, 0, 35, 88):
        turn = 1.7 * np.exp(1j * np.radians(angle))
        points = (ARC112 - 56) @ (1, 1j) * turn
        landmarks = np.stack([points.real + 200, points.imag + 150], 1)
        image = np.zeros((300, 400, 3), np.float32)
        for x, y in landmarks:
            grid = np.mgrid[:300, :400]
            image += np.exp(-((grid[1] - x) ** 2 + (grid[0] - y) ** 2) / 18)[..., None]
        for size in ((112, 112), (112, 96), (128, 128)):
            crop = align_face(image, landmarks, size)
            assert crop.shape == (*size, 3)
            for x, y in template_points(size):
                near = crop[round(y) - 4 : round(y) + 5, round(x) - 4 : round(x) + 5, 0]
                rows, columns = np.mgrid[round(y) - 4 : round(y) + 5, round(x) - 4 : round(x) + 5]
                weights = near / near.sum()
                assert abs((columns * weights).sum() - x) < 0.15 and abs((rows * weights).sum() - y) < 0.15


def test_an_aligned_face_stays_as_it_is_and_outside_is_black():
    image = photo((112, 112))
    assert np.array_equal(align_face(image, ARC112, (112, 112)), image)
    crop = align_face(image, ARC112 - (40, 0), (112, 112))
    assert (crop[:, :39] == 0).all() and np.array_equal(crop[:, 40:], image[:, :72])


def test_unusable_landmarks_never_give_an_image():
    image = photo((112, 112))
    for landmarks in (np.zeros((5, 2)), ARC112[SWAPPED], 112 - ARC112, ARC112 * np.nan):
        with pytest.raises(FaceFailure, match='landmarks'):
            align_face(image, landmarks, (112, 112))


def test_a_box_is_cut_out_as_a_square():
    image = photo((100, 140))
    assert np.array_equal(crop_box(image, (30, 20, 40, 40), 1, (40, 40)), image[20:60, 30:70])
    assert np.array_equal(crop_box(image, (30, 20, 40, 60), 1, (60, 60)), image[20:80, 20:80])
    assert np.array_equal(crop_box(image, (30, 20, 40, 40), 1.5, (60, 60)), image[10:70, 20:80])
    assert np.array_equal(crop_box(image, (30, 20, 40, 40), 1, (40, 30)), image[20:60, 35:65])
    crop = crop_box(image, (-10, 20, 40, 40), 1, (40, 40))
    assert (crop[:, :10] == 0).all() and np.array_equal(crop[:, 10:], image[20:60, :30])
    half = crop_box(image, (20, 20, 60, 60), 1, (30, 30), antialias=True)
    means = image[20:80, 20:80].reshape(30, 2, 30, 2, 3).mean((1, 3))
    assert np.abs(half - means).max() <= 1


@pytest.mark.parametrize(
    ('box', 'reason'),
    [
        ((0, 0, 0, 10), 'empty'), ((0, 0, 10, -1), 'empty'), ((0, np.nan, 10, 10), 'not finite'), ((0, 0, np.inf, 1), 'not finite'),
        ((140, 0, 9, 9), 'outside'), ((0, 100, 9, 9), 'outside'), ((-9, 0, 9, 9), 'outside'), ((0, -20, 9, 9), 'outside'),
    ],
)  # fmt: skip
def test_boxes_without_pixels_are_failures(box, reason):
    with pytest.raises(FaceFailure, match=reason):
        crop_box(photo((100, 140)), box, 1.2, (112, 112))


def test_antialias_averages_what_one_sample_misses():
    """Stripes a pixel wide in a face of 448 pixels: grey, where bilinear samples see one or the other."""
    stripes = np.zeros((448, 448, 3), np.uint8)
    stripes[:, ::4] = stripes[:, 1::4] = 255
    landmarks = (ARC112 + 0.5) * 4 - 0.5  # pixel 0 of the crop covers pixels 0 to 3
    one, many = (align_face(stripes, landmarks, (112, 112), antialias=antialias) for antialias in (False, True))
    inner = np.s_[2:-2, 2:-2]
    assert np.abs(many[inner] - 127.5).max() <= 8 and one.shape == many.shape
    shifted = align_face(np.roll(stripes, 2, 1), landmarks, (112, 112), antialias=True)
    assert np.abs(shifted[inner].astype(float) - many[inner]).max() <= 16
    small = photo((112, 112))
    assert np.array_equal(align_face(small, ARC112, (112, 112), antialias=True), small)


def test_a_batch_is_three_times_as_fast_as_scikit_image():
    """The same five points, the fastest of several rounds; measured 800 times, so three leaves room for a busy machine."""
    import time

    from skimage.transform import SimilarityTransform

    faces = noisy_faces(400)

    def seconds(function):
        rounds = []
        for _ in range(3):
            start = time.perf_counter()
            function()
            rounds.append(time.perf_counter() - start)
        return min(rounds)

    reference = seconds(lambda: [SimilarityTransform.from_estimate(face, ARC112) for face in faces])
    assert seconds(lambda: similarity(faces, ARC112)) * 3 < reference


def results(**more):
    return dict(dict(img=photo()), **more)


def test_the_transform_prefers_landmarks_then_the_box_then_the_image():
    transform = AlignFace(size=(112, 96), box_scale=1.5)
    landmarks, box = ARC112 + 60, np.array([70, 80, 60, 50], np.float32)
    both = transform(results(landmarks=landmarks, box=box))
    assert (
        both['aligned_by'] == 'landmarks' and both['img_shape'] == (112, 96) and {'landmarks', 'box'}.isdisjoint(both)
    )
    assert np.array_equal(both['img'], align_face(photo(), landmarks, (112, 96)))
    for unknown in (dict(), dict(landmarks=None), dict(landmarks=landmarks * np.nan)):
        found = transform(results(box=box, **unknown))
        assert found['aligned_by'] == 'box' and np.array_equal(found['img'], crop_box(photo(), box, 1.5, (112, 96)))
    for unknown in (dict(), dict(box=box * np.nan)):
        found = transform(results(**unknown))
        assert found['aligned_by'] == 'image' and found['img'].shape == (112, 96, 3)


def test_aligned_crops_of_the_other_shape_fit():
    image = photo((112, 112))
    assert AlignFace()(dict(img=image))['img'] is image
    assert np.array_equal(AlignFace(size=(112, 96))(dict(img=image))['img'], image[:, 8:104])
    wide = AlignFace()(dict(img=image[:, 8:104]))['img']
    assert np.array_equal(wide[:, 8:104], image[:, 8:104]) and not wide[:, :8].any() and not wide[:, 104:].any()


def test_the_transform_fails_where_no_face_can_be_cut():
    with pytest.raises(FaceFailure, match='have no shape of a face'):
        AlignFace()(results(landmarks=ARC112[SWAPPED], box=np.array([0, 0, 50, 50])))
    with pytest.raises(FaceFailure, match='no landmarks'):
        AlignFace(fallback=None)(results(box=np.array([0, 0, 50, 50])))
    with pytest.raises(FaceFailure, match='the box is outside'):
        AlignFace()(results(box=np.array([999, 0, 50, 50])))


def test_a_template_of_ones_own():
    template = ARC112 * 0.8 + 10
    found = AlignFace(template=template.tolist())(results(landmarks=ARC112 + 60))['img']
    assert np.array_equal(found, align_face(photo(), ARC112 + 60, (112, 112), template))
    assert not np.array_equal(found, align_face(photo(), ARC112 + 60, (112, 112)))


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (dict(size=0), r'AlignFace.size must be .*found 0'),
        (dict(size=(112, 112, 3)), 'found'),
        (dict(size='112'), "found '112'"),
        (dict(template='arc'), "must be 'arcface' or five points, found 'arc'"),
        (dict(template=[(1, 2)] * 4), r'found shape \(4, 2\)'),
        (dict(fallback='center'), "must be 'box' or None, found 'center'"),
        (dict(box_scale=0), 'must be above 0, found 0'),
    ],
)
def test_wrong_arguments_are_named(arguments, message):
    with pytest.raises(ConfigError, match=message):
        AlignFace(**arguments)


def test_it_is_found_by_its_name():
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        transform = TRANSFORMS.build(dict(type='mmsskd.AlignFace', size=112))
    assert 'size=(112, 112)' in repr(transform)
