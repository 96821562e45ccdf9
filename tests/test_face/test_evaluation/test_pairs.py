"""Ten-fold accuracy of pairs: against loops, against InsightFace's rule with scikit-learn, and lists that mislead."""

import numpy as np
import pytest
from metric_helpers import make_faces, random_pairs, slow_tar, tied_scores
from sklearn.model_selection import KFold

from mmsskd.errors import ConfigError
from mmsskd.face.evaluation.evaluate import evaluate_pairs, flat_metrics
from mmsskd.face.evaluation.options import EvaluationOptions
from mmsskd.face.evaluation.pairs import fold_accuracy
from mmsskd.face.evaluation.protocol import PairProtocol
from mmsskd.face.evaluation.tables import format_report


def slow_accuracy(scores, genuine, folds):
    """For each fold try every midpoint of the other folds, the highest first."""
    accuracies = []
    for fold in sorted(set(folds.tolist())):
        train, test = folds != fold, folds == fold
        known = sorted({score for score in scores[train].tolist() if score > -np.inf})
        thresholds = [known[-1], *((a + b) / 2 for a, b in zip(known[:0:-1], known[-2::-1])), known[0] - 1e-12]
        best = max(thresholds, key=lambda t: sum((s > t) == g for s, g in zip(scores[train].tolist(), genuine[train])))
        accuracies.append(np.mean([(s > best) == g for s, g in zip(scores[test].tolist(), genuine[test])]))
    return accuracies


def test_accuracy_is_that_of_loops():
    for seed in range(200):
        rng = np.random.default_rng(seed)
        count, folds = rng.integers(20, 60), rng.integers(2, 7)
        genuine, where = rng.random(count) < 0.5, rng.integers(0, folds, count)
        if len(set(where.tolist())) < 2:
            continue
        scores = tied_scores(rng, count) + 0.4 * genuine
        if np.isneginf(scores).all():
            continue
        found = fold_accuracy(scores, genuine, where)
        expected = slow_accuracy(scores.astype(np.float64), genuine, where)
        assert [fold['accuracy'] for fold in found['folds']] == pytest.approx(expected, abs=1e-12)
        assert found['mean'] == pytest.approx(np.mean(expected), abs=1e-12)
        assert found['std'] == pytest.approx(np.std(expected), abs=1e-12)
        assert found['standard_error'] == pytest.approx(np.std(expected, ddof=1) / np.sqrt(len(expected)), abs=1e-12)


def test_insightface_rule_is_that_of_its_verification():
    """Features of length 1, squared distance, 400 thresholds, contiguous folds, the first best threshold."""
    for seed in range(200):
        rng = np.random.default_rng(seed)
        pairs = random_pairs(rng, faces=60, count=200)
        people = rng.integers(0, 4, 60)
        features = (np.eye(4)[people][:, :, None] * np.ones(3)).reshape(60, 12) + rng.normal(0, 0.6, (60, 12))
        genuine = people[pairs.pairs[:, 0]] == people[pairs.pairs[:, 1]]
        protocol = PairProtocol('made', pairs.faces, pairs.pairs, genuine, pairs.folds)
        unit = features / np.linalg.norm(features, axis=1, keepdims=True)
        distance = ((unit[pairs.pairs[:, 0]] - unit[pairs.pairs[:, 1]]) ** 2).sum(axis=1)
        grid = np.arange(0, 4, 0.01)
        if np.abs(distance[:, None] - grid).min() < 1e-6:
            continue  # where rounding decides
        expected = []
        for train, test in KFold(10).split(distance):
            hits = [np.mean((distance[train] < threshold) == genuine[train]) for threshold in grid]
            expected.append(np.mean((distance[test] < grid[np.argmax(hits)]) == genuine[test]))
        report = evaluate_pairs(protocol, features, options=EvaluationOptions(roc_rule='insightface'))
        assert [fold['accuracy'] for fold in report['accuracy']['folds']] == pytest.approx(expected, abs=1e-12)
        assert report['summary']['accuracy']['std'] == pytest.approx(np.std(expected), abs=1e-12)


def test_threshold_comes_from_the_other_folds():
    """The last fold's scores are shifted: a threshold tuned on it would be right always."""
    folds = np.repeat(np.arange(4), 20)
    genuine = np.tile([True, False], 40)
    scores = np.where(genuine, 0.8, 0.2) + 0.5 * (folds == 3)
    found = fold_accuracy(scores, genuine, folds)
    assert [fold['accuracy'] for fold in found['folds']] == [1, 1, 1, 0.5]
    assert found['folds'][3]['threshold'] == 0.5


def test_numbers_over_all_pairs_are_those_of_loops():
    rng = np.random.default_rng(0)
    protocol = random_pairs(rng)
    features = rng.standard_normal((40, 8)).astype(np.float32)
    features[3], mirrored = np.nan, rng.standard_normal((40, 8)).astype(np.float32)
    report = evaluate_pairs(protocol, features, mirrored)
    both = (features + mirrored).astype(np.float64)
    both /= np.linalg.norm(both, axis=1, keepdims=True)
    scores = np.nan_to_num((both[protocol.pairs[:, 0]] * both[protocol.pairs[:, 1]]).sum(axis=1), nan=-np.inf)
    genuine, impostor = scores[protocol.genuine], scores[~protocol.genuine]
    assert report['faces'] == dict(count=40, failed=1, failed_keys=['img/3.jpg']) and report['options']['flip']
    assert report['pairs']['genuine_failed'] == np.isneginf(genuine).sum() > 0
    for point in report['pairs']['points'][1:]:
        tar, threshold = slow_tar(genuine, impostor, point['far'])
        assert point['tar'] == tar and point['threshold'] == pytest.approx(threshold, abs=1e-7)
    assert flat_metrics(report).keys() == {
        'accuracy',
        'auc',
        'tar@far=1e-2',
        'tar@far=1e-1',
    }  # 1e-3 of some 150 cannot be
    assert flat_metrics(report)['accuracy'] == pytest.approx(
        np.mean(slow_accuracy(scores, protocol.genuine, protocol.folds))
    )


def test_failed_faces_are_wrong_in_genuine_pairs_and_right_in_others():
    pairs = np.array([[0, 1], [0, 2], [3, 4], [3, 2]] * 10, np.int32)
    protocol = PairProtocol('made', make_faces(5), pairs, np.tile([True, False], 20), np.repeat(np.arange(10), 4))
    features = np.eye(5, dtype=np.float32)[[0, 0, 1, 2, 2]]
    assert evaluate_pairs(protocol, features)['accuracy']['mean'] == 1
    features[4] = 0
    report = evaluate_pairs(protocol, features)
    assert report['accuracy']['mean'] == 0.75 and report['pairs']['genuine_failed'] == 10
    report = evaluate_pairs(protocol, np.full_like(features, np.nan))
    assert report['accuracy']['mean'] == 0.5 and report['faces']['failed'] == 5
    assert report['summary']['tar@far=1e-1']['mean'] == 0


def test_a_list_sorted_by_kind_is_warned_about():
    rng = np.random.default_rng(0)
    made = random_pairs(rng)
    protocol = PairProtocol('sorted', made.faces, made.pairs, np.arange(300) < 150, made.folds)
    report = evaluate_pairs(protocol, rng.standard_normal((40, 8)).astype(np.float32))
    assert len(report['warnings']) == 10 and 'fold 0 has pairs of one kind only' in report['warnings'][0]
    assert 'Warning: fold 9 has pairs of one kind only' in format_report(report)


def test_one_fold_has_no_accuracy_but_the_other_numbers():
    rng = np.random.default_rng(0)
    protocol = random_pairs(rng, folds=1)
    report = evaluate_pairs(protocol, rng.standard_normal((40, 8)).astype(np.float32))
    assert report['summary']['accuracy']['mean'] is None and report['summary']['auc']['mean'] is not None
    assert report['warnings'] == ['accuracy needs two folds or more, found 1'] and 'accuracy' not in flat_metrics(
        report
    )
    assert 'Accuracy: not resolvable' in format_report(report)


def test_all_pairs_of_one_kind():
    rng = np.random.default_rng(0)
    made = random_pairs(rng)
    features = rng.standard_normal((40, 8)).astype(np.float32)
    for genuine in (np.ones(300, bool), np.zeros(300, bool)):
        report = evaluate_pairs(PairProtocol('one', made.faces, made.pairs, genuine, made.folds), features)
        assert report['summary']['auc']['mean'] is None and report['summary']['tar@far=1e-1']['mean'] is None
        assert report['curves'] == {} and 'not resolvable' in format_report(report)


def test_features_of_another_number_of_faces():
    with pytest.raises(ConfigError, match=r'needed: float of shape \(40, D\), a row for each face'):
        evaluate_pairs(random_pairs(np.random.default_rng(0)), np.zeros((41, 8), np.float32))
