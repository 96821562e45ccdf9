"""Features of faces to features of templates: by loops, what is not usable, and what must not matter."""

import numpy as np
import pytest
from metric_helpers import make_faces, make_templates, slow_pool

from mmsskd.errors import ConfigError
from mmsskd.face.evaluation.options import EvaluationOptions
from mmsskd.face.evaluation.pooling import FaceFeatures, count_media, pool


def random_case(rng):
    faces, count = rng.integers(1, 60), rng.integers(1, 15)
    features = rng.standard_normal((faces, 8)).astype(rng.choice([np.float16, np.float32, np.float64]))
    for wrong in (np.nan, np.inf, 0):
        features[rng.random(faces) < 0.1] = wrong
    rows = rng.integers(1, 120)
    templates = make_templates(
        np.zeros(count), rng.integers(0, count, rows), rng.integers(0, faces, rows), rng.integers(0, 6, rows)
    )
    return faces, features, templates


def test_pooling_is_that_of_loops():
    for seed in range(200):
        rng = np.random.default_rng(seed)
        faces, features, templates = random_case(rng)
        mirrored = rng.standard_normal(features.shape).astype(np.float32) if seed % 2 else None
        scores = rng.uniform(0.1, 1, faces).astype(np.float32)
        options = EvaluationOptions(
            normalize_before_pooling=bool(rng.integers(2)),
            detector_weights=bool(rng.integers(2)),
            media_pooling=bool(rng.integers(2)),
        )
        checked = FaceFeatures.check(make_faces(faces, scores), features, mirrored, options)
        pooled, valid = pool(templates, checked, options)
        expected = slow_pool(
            templates,
            features.astype(np.float32),
            mirrored,
            scores if options.detector_weights else None,
            options.normalize_before_pooling,
            options.media_pooling,
        )
        assert valid.tolist() == [feature is not None for feature in expected]
        assert pooled.dtype == np.float32 and not pooled[~valid].any()
        for feature, wanted in zip(pooled, expected):
            if wanted is not None:
                np.testing.assert_allclose(feature, wanted, atol=2e-6)


def test_frames_of_a_video_count_as_one_medium():
    features = np.float32([[1, 0], [0, 1], [0, 1], [0, 1]])
    templates = make_templates([1], [0, 0, 0, 0], [0, 1, 2, 3], [5, 9, 9, 9])
    assert count_media(templates) == 2
    checked = FaceFeatures.check(make_faces(4), features)
    np.testing.assert_allclose(pool(templates, checked)[0], [[np.sqrt(0.5)] * 2], atol=1e-7)
    alike = pool(templates, checked, EvaluationOptions(media_pooling=False))[0]
    np.testing.assert_allclose(alike, [np.array([1, 3]) / np.sqrt(10)], atol=1e-7)


def test_failures_are_left_out_of_means_and_counts():
    """A medium with a failed frame is the mean of the others; one with none does not count."""
    features = np.float32([[2, 0], [np.nan, 0], [0, 4], [0, 0], [np.inf, 1]])
    templates = make_templates([1, 2], [0, 0, 0, 0, 0, 1, 1], [0, 1, 2, 3, 4, 3, 4], [1, 1, 2, 3, 4, 1, 2])
    checked = FaceFeatures.check(make_faces(5), features)
    assert checked.usable.tolist() == [True, False, True, False, False]
    pooled, valid = pool(templates, checked)
    assert valid.tolist() == [True, False] and pooled[1].tolist() == [0, 0]
    np.testing.assert_allclose(pooled[0], np.array([2, 4]) / np.sqrt(20), atol=1e-7)


def test_a_face_that_its_mirror_image_cancels_is_a_failure():
    features, mirrored = np.float32([[1, 2], [1, 2], [1, 2]]), np.float32([[-1, -2], [1, 2], [np.nan, 0]])
    assert FaceFeatures.check(make_faces(3), features, mirrored).usable.tolist() == [False, True, False]
    without = FaceFeatures.check(make_faces(3), features, mirrored, EvaluationOptions(flip=False))
    assert without.usable.all() and without.mirrored is None


def test_faces_that_cancel_each_other_make_no_template():
    templates = make_templates([1], [0, 0], [0, 1])
    pooled, valid = pool(templates, FaceFeatures.check(make_faces(2), np.float32([[1, 2], [-1, -2]])))
    assert not valid[0] and not pooled.any()


def test_very_small_and_very_large_features_are_usable():
    """Squares of 1e-30 and 1e30 are out of the range of float32."""
    direction = np.float32([3, 4]) / 5
    features = np.stack([direction * np.float32(scale) for scale in (1e-30, 1e30, 1)])
    templates = make_templates([1, 2, 3], [0, 1, 2], [0, 1, 2])
    for normalize in (False, True):
        options = EvaluationOptions(normalize_before_pooling=normalize)
        pooled, valid = pool(templates, FaceFeatures.check(make_faces(3), features, None, options), options)
        assert valid.all()
        np.testing.assert_allclose(pooled, np.tile(direction, (3, 1)), atol=1e-6)


def test_half_precision_sums_do_not_overflow():
    features = np.full((40, 4), 60000, np.float16)
    pooled, valid = pool(
        make_templates([1], np.zeros(40, int), np.arange(40)), FaceFeatures.check(make_faces(40), features, features)
    )
    assert valid.all()
    np.testing.assert_allclose(pooled, 0.5, atol=1e-6)


def test_order_of_rows_and_number_of_equal_faces_do_not_show():
    rng = np.random.default_rng(3)
    _, _, templates = random_case(rng)
    features = rng.standard_normal((60, 64)).astype(np.float32)
    checked = FaceFeatures.check(make_faces(60), features)
    order = rng.permutation(len(templates.rows_face))
    rows = (rows[order] for rows in (templates.rows_template, templates.rows_face, templates.rows_media))
    shuffled = make_templates(templates.subjects, *rows)
    assert np.array_equal(pool(templates, checked)[0], pool(shuffled, checked)[0])
    equal = FaceFeatures.check(make_faces(60), np.tile(features[:1], (60, 1)))
    sizes = make_templates(np.zeros(4), np.repeat(np.arange(4), [1, 3, 7, 49]), np.arange(60), np.arange(60) // 2)
    pooled = pool(sizes, equal)[0]
    assert (pooled == pooled[0]).all()


def test_a_template_of_two_thousand_frames_beside_many_small_ones():
    owner = np.concatenate((np.arange(300), np.zeros(2000, int)))
    features = np.random.default_rng(0).standard_normal((2300, 8)).astype(np.float32)
    templates = make_templates(np.arange(300), owner, np.arange(2300), np.arange(2300) % 7)
    pooled, _ = pool(templates, FaceFeatures.check(make_faces(2300), features))
    np.testing.assert_allclose(pooled, slow_pool(templates, features), atol=2e-6)


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (dict(features=np.zeros((3, 4), np.float32)), r'features: found float32 of shape \(3, 4\); needed: .*\(5, D\)'),
        (dict(features=np.zeros((5, 4), int)), 'features: found int64'),
        (dict(mirrored=np.zeros((5, 3), np.float32)), r'features_flip: found shape \(5, 3\), features have \(5, 4\)'),
        (
            dict(options=EvaluationOptions(max_failures=1)),
            r'2 of 5 faces have no usable feature .*img/1\.jpg.*max_failures',
        ),
        (
            dict(options=EvaluationOptions(detector_weights=True)),
            "1 of 5 faces have no detector score, the first: 'img/4.jpg'",
        ),
    ],
)
def test_what_does_not_fit_is_named(change, message):
    features = np.ones((5, 4), np.float32)
    features[1:3] = np.nan
    faces = make_faces(5, [1, 1, np.nan, 1, np.nan])  # the third is a failure: it needs no score
    with pytest.raises(ConfigError, match=message):
        FaceFeatures.check(faces, **(dict(features=features) | change))


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(roc_rule='insigthface'), "roc_rule: found 'insigthface'; did you mean 'insightface'"),
        (dict(fars=[0.1, 1.5]), 'fars: found .* numbers from 0 to below 1'),
        (dict(fars='0.1'), 'fars: found'),
        (dict(fpirs=[float('nan')]), 'fpirs: found'),
        (dict(ranks=[0]), 'ranks: found'),
        (dict(tpir_rank=0), 'tpir_rank: found 0; allowed: None or whole numbers from 1'),
        (dict(max_failures=-1), 'max_failures'),
        (dict(memory=5), 'memory'),
        (dict(flip=1), 'flip: found 1; allowed: True, False'),
        (dict(tpir_ranks=1), "there is no option 'tpir_ranks'; did you mean 'tpir_rank'"),
    ],
)
def test_options_that_are_not_allowed(options, message):
    with pytest.raises(ConfigError, match=rf'^here(\.|: ){message}'):
        EvaluationOptions.from_dict(options, 'here')


def test_options_are_sorted_and_once_each():
    options = EvaluationOptions(fars=[0.1, 1e-3, 0.1], ranks=5)
    assert options.fars == (1e-3, 0.1) and options.ranks == (5,) and options.as_dict()['fars'] == [1e-3, 0.1]
