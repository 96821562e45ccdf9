"""Rates of accepts: against loops, against scikit-learn's ROC for InsightFace's rule, and where there is no number."""

import json

import numpy as np
import pytest
from metric_helpers import slow_tar, tied_scores
from sklearn.metrics import roc_auc_score
from sklearn.metrics import roc_curve as sklearn_roc_curve

from mmsskd.errors import ConfigError
from mmsskd.face.evaluation.evaluate import far_label
from mmsskd.face.evaluation.roc import auc, curve_fars, roc_curve, tar_at_far

FARS = (1e-3, 1e-2, 0.05, 0.1, 0.3)


def cases(count=200, least=1):
    for seed in range(count):
        rng = np.random.default_rng(seed)
        yield tied_scores(rng, rng.integers(least, 80)) + 0.5, tied_scores(rng, rng.integers(least, 300))


def test_exact_rule_is_that_of_loops():
    resolved = 0
    for genuine, impostor in cases():
        for far in FARS:
            point = tar_at_far(genuine, impostor, far)
            assert (point.impostors, point.genuine) == (len(impostor), len(genuine))
            assert point.k == int(far * len(impostor) + 1e-9) and point.resolvable == (point.k > 0)
            if not point.resolvable:
                assert point.tar is None and point.threshold is None and 'resolves no rate below' in point.reason
                continue
            resolved += 1
            tar, threshold = slow_tar(genuine, impostor, far)
            assert (point.tar, point.threshold) == (tar, threshold)
            assert point.realised_far == np.mean(impostor > threshold) <= far + 1e-12
    assert resolved > 500


def test_insightface_rule_is_nearest_point_of_the_dropped_reversed_roc():
    for genuine, impostor in cases():
        scores = np.concatenate((genuine, impostor)).astype(np.float64)
        scores[np.isneginf(scores)] = -9999  # what PFE gives failures to enrol; scikit-learn takes no infinity
        labels = np.arange(len(scores)) < len(genuine)
        fpr, tpr, _ = sklearn_roc_curve(labels, scores)
        fpr, tpr = fpr[::-1], tpr[::-1]
        for far in (*FARS, 1e-6):
            nearest = int(np.argmin(np.abs(fpr - far)))
            point = tar_at_far(genuine, impostor, far, 'insightface')
            assert point.resolvable and point.k == round(point.realised_far * len(impostor))
            if nearest == 0 and np.isneginf(scores.min()):
                continue
            assert point.tar == pytest.approx(tpr[nearest], abs=1e-12), (far, len(impostor))
            assert point.realised_far == pytest.approx(fpr[nearest], abs=1e-12)
            assert np.mean(genuine > point.threshold) == point.tar


def test_insightface_rule_on_many_scores_without_ties():
    rng = np.random.default_rng(1)
    genuine, impostor = rng.normal(0.45, 0.16, 1800), rng.normal(0.05, 0.09, 9984)
    fpr, tpr, _ = sklearn_roc_curve(np.arange(11784) < 1800, np.concatenate((genuine, impostor)))
    for far in (1e-4, 1e-3, 1e-2, 1e-1):
        nearest = int(np.argmin(np.abs(fpr[::-1] - far)))
        assert tar_at_far(genuine, impostor, far, 'insightface').tar == pytest.approx(tpr[::-1][nearest], abs=1e-12)
    # the reason for a rule of our own: with 9,984 impostors it accepts 10 at 1e-3, one more than allowed
    assert tar_at_far(genuine, impostor, 1e-3).k == 9


@pytest.mark.parametrize('rule', ['exact', 'insightface'])
def test_failures_to_enrol_are_never_accepted_and_always_counted(rule):
    failed = np.full(30, -np.inf)
    genuine = np.array([-np.inf, -np.inf, 0.9, 0.1])
    for impostor, far in ((failed, 0.1), (np.concatenate((failed, [0.3] * 3)), 0.1), (failed[:2], 0.9)):
        point = tar_at_far(genuine, impostor, far, rule)
        assert point.genuine == 4 and point.impostors == len(impostor) and point.tar == 0.5


def test_rate_of_accepting_all_but_failures_is_json():
    point = tar_at_far(np.array([0.5]), np.full(20, -np.inf), 0.1)
    assert (point.tar, point.threshold, point.realised_far) == (1, -np.inf, 0)
    assert json.loads(json.dumps(point.as_dict(), allow_nan=False))['threshold'] is None


def test_rounded_rates_allow_the_whole_count():
    """0.07 * 100 is 7.000000000000001, and 0.29 * 100 is 28.999999999999996."""
    scores = np.arange(100.0)
    for far, k in ((0.07, 7), (0.29, 29), (0.01, 1)):
        point = tar_at_far(scores, scores, far)
        assert point.k == k and point.realised_far == k / 100 and point.threshold == 99 - k


def test_no_scores_of_a_kind_and_zero_rate():
    some, none = np.array([0.1, 0.7]), np.zeros(0)
    for rule in ('exact', 'insightface'):
        assert tar_at_far(some, none, 0.1, rule).reason == 'no impostor scores'
        assert tar_at_far(none, some, 0.1, rule).reason == 'no genuine scores'
        assert tar_at_far(none, none, 0.1, rule).tar is None
    assert auc(some, none) is None and auc(none, some) is None
    with pytest.raises(ConfigError, match='found 2 genuine, 0 impostor'):
        roc_curve(some, none, [0.1])
    point = tar_at_far(np.array([0.1, 0.6, 0.9]), some, 0)  # "no false accept" can be asked for as such
    assert (point.k, point.tar, point.threshold, point.realised_far) == (0, 1 / 3, 0.7, 0)


def test_equal_scores_accept_nobody():
    point = tar_at_far(np.full(50, 0.5), np.full(200, 0.5), 0.1)
    assert (point.tar, point.realised_far, point.k) == (0, 0, 20)
    assert auc(np.full(50, 0.5), np.full(200, 0.5)) == 0.5


def test_nan_is_refused_before_any_sort():
    scores = np.array([0.1, np.nan, 0.3, np.nan])
    for call in (lambda: tar_at_far(scores, scores[:1], 0.1), lambda: auc(scores[:1], scores)):
        with pytest.raises(ConfigError, match=r'2 of 4 (genuine|impostor) scores are NaN \(the first at 1\)'):
            call()
    with pytest.raises(ConfigError, match="found 'nearest'"):
        tar_at_far(scores[:1], scores[:1], 0.1, 'nearest')


def test_order_scale_and_equal_copies_do_not_matter():
    for seed, (genuine, impostor) in enumerate(cases(50, least=5)):
        genuine, impostor = genuine.astype(float), impostor.astype(float)
        rng = np.random.default_rng(seed)
        for rule in ('exact', 'insightface'):
            point = tar_at_far(genuine, impostor, 0.1, rule)
            same = tar_at_far(rng.permutation(genuine), rng.permutation(impostor), 0.1, rule)
            assert same == point
            mapped = tar_at_far(np.exp(genuine) - 7, np.exp(impostor) - 7, 0.1, rule)
            if not np.isneginf(np.concatenate((genuine, impostor))).any():
                assert (mapped.tar, mapped.k, mapped.realised_far) == (point.tar, point.k, point.realised_far)
        assert auc(np.tile(genuine, 3), np.tile(impostor, 3)) == pytest.approx(auc(genuine, impostor), abs=1e-15)
        if len(impostor) >= 10:
            # k of three copies is at least three times k, which accepts what is accepted once
            assert (
                tar_at_far(np.tile(genuine, 3), np.tile(impostor, 3), 0.1).tar >= tar_at_far(genuine, impostor, 0.1).tar
            )


def test_auc_counts_ties_half():
    for genuine, impostor in cases():
        wins = (genuine[:, None] > impostor).sum() + (genuine[:, None] == impostor).sum() / 2
        assert auc(genuine, impostor) == pytest.approx(wins / len(genuine) / len(impostor), abs=1e-12)
        if np.isfinite(genuine).all() and np.isfinite(impostor).all():
            labels = np.arange(len(genuine) + len(impostor)) < len(genuine)
            expected = roc_auc_score(labels, np.concatenate((genuine, impostor)))
            assert auc(genuine, impostor) == pytest.approx(expected, abs=1e-12)


def test_curve_is_the_exact_rule_at_few_points():
    assert len(curve_fars(15_638_932)) <= 1000 and len(curve_fars(0)) == 0
    for genuine, impostor in cases(30):
        fars = curve_fars(len(impostor))
        assert fars[0] == 1 / len(impostor) and fars[-1] == 1 and (np.diff(fars) > 0).all()
        rates = roc_curve(genuine, impostor, fars)
        for far, rate in zip(fars[:-1], rates):
            assert rate == tar_at_far(genuine, impostor, far).tar
        assert rates[-1] == np.mean(genuine > -np.inf) and (np.diff(rates) >= 0).all()


def test_labels_of_rates():
    assert [far_label(far) for far in (1e-3, 0.1, 2.5e-4, 1e-6, 0, 0.05)] == [
        '1e-3',
        '1e-1',
        '2.5e-4',
        '1e-6',
        '0',
        '5e-2',
    ]
