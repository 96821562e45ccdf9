"""Open-set search: against loops and against InsightFace's 1:N as its source says it, and failures to enrol in every role."""

import numpy as np
import pytest
from metric_helpers import identity_protocol, make_faces, slow_ranks, slow_tar, tied_scores

from mmsskd.face.evaluation.evaluate import evaluate_templates
from mmsskd.face.evaluation.identification import (
    MISSED,
    cmc_curve,
    dir_curve,
    identification_numbers,
    search,
    tpir_at_fpir,
)
from mmsskd.face.evaluation.options import EvaluationOptions
from mmsskd.face.evaluation.pooling import FaceFeatures, pool
from mmsskd.face.evaluation.protocol import Templates
from mmsskd.face.evaluation.roc import curve_fars

MEMORY = 2**20


def templates_of(subjects):
    each = np.arange(len(subjects))
    return Templates(each, np.asarray(subjects), each, each, each)


def random_search(rng):
    """A gallery and probes whose cosines often tie, as a matrix too: features are few directions on few axes."""
    gallery, probes, people = rng.integers(1, 25), rng.integers(1, 40), rng.integers(2, 30)
    owners, asked = rng.integers(0, people, gallery), rng.integers(0, people, probes)
    directions = np.concatenate((np.eye(4), -np.eye(4))).astype(np.float32)
    # signs of four numbers: lengths are powers of two, so cosines are exact and many are equal
    signs = (np.array([[1, 1, 1, 1], [1, 1, -1, -1], [1, -1, 1, -1]]) / 2).astype(np.float32)
    known = np.concatenate((directions, signs))
    left, right = known[rng.integers(0, len(known), gallery)], known[rng.integers(0, len(known), probes)]
    left_valid, right_valid = (rng.random(count) > 0.1 * rng.integers(0, 3) for count in (gallery, probes))
    scores = right @ left.T
    scores[:, ~left_valid] = -np.inf
    scores[~right_valid] = -np.inf
    names = np.array([f'person {number}' for number in range(people)])
    if rng.integers(2):
        owners, asked = names[owners], names[asked]
    return templates_of(owners), templates_of(asked), (left, left_valid), (right, right_valid), scores


def test_search_is_that_of_loops():
    mated = missed = 0
    for seed in range(200):
        gallery, probes, left, right, scores = random_search(np.random.default_rng(seed))
        mate, rank, alarm = search(gallery, probes, left, right, MEMORY)
        found = slow_ranks(scores, gallery.subjects, probes.subjects)
        assert mate.tolist() == [one[0] for one in found if one[0] is not None]
        assert rank.tolist() == [one[1] or MISSED for one in found if one[0] is not None]
        assert alarm.tolist() == [one[2] for one in found if one[0] is None]
        mated, missed = mated + len(mate), missed + int((rank == MISSED).sum())
    assert mated > 1000 and missed > 50


def test_rank_and_tpir_are_those_of_loops():
    for seed in range(200):
        rng = np.random.default_rng(seed)
        count = rng.integers(1, 60)
        mate, alarm = tied_scores(rng, count), tied_scores(rng, rng.integers(1, 150))
        rank = np.where(np.isneginf(mate), MISSED, rng.integers(1, 25, count)).astype(np.int32)
        for limit in (1, 20, None):
            options = EvaluationOptions(tpir_rank=limit, fpirs=(0.01, 0.1))
            numbers = identification_numbers(mate, rank, alarm, options)
            for k in (1, 5, 10):
                assert numbers['ranks'][str(k)] == sum(r <= k for r in rank.tolist()) / count
            for point in numbers['points']:
                k = int(point['fpir'] * len(alarm) + 1e-9)
                assert (point['k'], point['mated'], point['non_mated']) == (k, count, len(alarm))
                if k == 0:
                    assert point['tpir'] is None and not point['resolvable']
                    continue
                _, threshold = slow_tar(mate, alarm, point['fpir'])
                hits = sum(
                    s > threshold and (limit is None or r <= limit) for s, r in zip(mate.tolist(), rank.tolist())
                )
                assert point['tpir'] == hits / count
                assert (
                    point['realised_fpir'] == sum(s > threshold for s in alarm.tolist()) / len(alarm) <= point['fpir']
                )


def test_insightface_rule_is_one_probe_stricter():
    """As ``evaluation_1N`` of ijb_evals.py: the threshold is the score at place max(int(n * p) - 1, 0) of the descending list."""
    for seed in range(200):
        rng = np.random.default_rng(seed)
        people, gallery = 30, 20
        similarity = rng.integers(-30, 30, (50, gallery)) / 32
        query_ids = rng.integers(0, people, 50)
        mated = query_ids < gallery
        if mated.all() or not mated.any():
            continue
        own = query_ids[:, None] == np.arange(gallery)
        positive = np.array([row[q] for row, q in zip(similarity[mated], query_ids[mated])])
        negative = np.where(own, -9, similarity)[mated].max(axis=1)
        outside = np.sort(similarity[~mated].max(axis=1))[::-1]
        rank = 1 + ((similarity[mated] >= positive[:, None]) & ~own[mated]).sum(axis=1)
        for fpir in (0.01, 0.1, 0.25):
            threshold = outside[max(int(len(outside) * fpir) - 1, 0)]
            expected = np.mean((positive > negative) & (positive > threshold))
            point = tpir_at_fpir(positive, rank, outside, fpir, EvaluationOptions(roc_rule='insightface'))
            assert point.tar == expected and point.threshold == threshold
    alarm = np.arange(600.0)
    for rule, realised in (('exact', 6 / 600), ('insightface', 5 / 600)):
        point = tpir_at_fpir(alarm, np.ones(600), alarm, 0.01, EvaluationOptions(roc_rule=rule))
        assert point.realised_far == realised and point.k == round(600 * realised)


def test_probes_of_one_kind_only():
    scores, rank = np.float32([0.4, 0.6]), np.int32([1, 2])
    none, no_rank = np.zeros(0, np.float32), np.zeros(0, np.int32)
    for rule in ('exact', 'insightface'):
        options = EvaluationOptions(roc_rule=rule)
        assert tpir_at_fpir(scores, rank, none, 0.1, options).reason == 'no non-mated probes'
        assert tpir_at_fpir(none, no_rank, scores, 0.1, options).reason == 'no mated probes'
    numbers = identification_numbers(none, no_rank, scores, EvaluationOptions())
    assert numbers['ranks'] == {'1': None, '5': None, '10': None}
    assert len(cmc_curve(no_rank, [1, 2])) == 0 and len(dir_curve(scores, rank, none, [0.1], options)) == 0


def test_several_gallery_templates_of_a_subject_count_by_the_best():
    gallery, probes = templates_of([7, 7, 8, 8]), templates_of([7, 9])
    left = np.float32([[1, 0], [0, 1], [1, 0], [1, 0]]), np.ones(4, bool)
    right = np.float32([[0, 1], [1, 0]]), np.ones(2, bool)
    mate, rank, alarm = search(gallery, probes, left, right, MEMORY)
    assert (mate.tolist(), rank.tolist(), alarm.tolist()) == ([1], [1], [1])
    right[0][0] = [1, 0]  # both templates of subject 8 tie with the mate, and ties count against it
    assert search(gallery, probes, left, right, MEMORY)[1].tolist() == [3]


def test_failures_in_every_role():
    """A failed probe, a failed mate, a failed probe without mate: a miss, a miss, no alarm; a failed stranger is never ahead."""
    gallery, probes = templates_of([1, 2, 3]), templates_of([1, 2, 3, 9, 9])
    left = np.float32([[1, 0], [0, 0], [0, 1]]), np.array([True, False, True])
    right = np.float32([[1, 0], [0, 1], [0, 0], [0, 0], [-1, 0]]), np.array([True, True, False, False, True])
    mate, rank, alarm = search(gallery, probes, left, right, MEMORY)
    assert mate.tolist() == [1, -np.inf, -np.inf] and rank.tolist() == [1, MISSED, MISSED]
    assert alarm.tolist() == [-np.inf, 0]
    numbers = identification_numbers(mate, rank, alarm, EvaluationOptions(ranks=[1, 1000], fpirs=[0.5], tpir_rank=None))
    assert numbers['ranks'] == {'1': 1 / 3, '1000': 1 / 3}
    assert (numbers['mated_failed'], numbers['non_mated_failed']) == (2, 1)
    point = numbers['points'][0]  # one alarm is allowed: the threshold is that of the failed probe, which raises none
    assert (point['tpir'], point['threshold'], point['realised_fpir'], point['k']) == (1 / 3, None, 0.5, 1)
    empty = search(templates_of([]), probes, (np.zeros((0, 2), np.float32), np.zeros(0, bool)), right, MEMORY)
    assert [len(values) for values in empty] == [0, 0, 5] and np.isneginf(empty[2]).all()


def test_equal_features_find_nobody():
    """A model that has collapsed: all scores tie, whatever place in a matrix they are computed at."""
    gallery, probes = templates_of(np.arange(37)), templates_of(np.arange(53))
    feature = np.random.default_rng(0).standard_normal(200).astype(np.float32)
    faces = FaceFeatures.check(make_faces(53), np.tile(feature, (53, 1)))
    mate, rank, alarm = search(gallery, probes, pool(gallery, faces), pool(probes, faces), MEMORY)
    assert (rank == 37).all() and len({*mate.tolist(), *alarm.tolist()}) == 1
    assert tpir_at_fpir(mate, rank, alarm, 0.1, EvaluationOptions(tpir_rank=None)).tar == 0


def test_order_of_templates_and_blocks_does_not_matter():
    rng = np.random.default_rng(5)
    gallery, probes = templates_of(rng.integers(0, 300, 400)), templates_of(rng.integers(0, 400, 900))
    faces = FaceFeatures.check(make_faces(900), rng.standard_normal((900, 64)).astype(np.float32))
    left, right = pool(gallery, faces), pool(probes, faces)
    mate, rank, alarm = search(gallery, probes, left, right, MEMORY)
    assert np.array_equal(search(gallery, probes, left, right, 2**28)[1], rank)
    for count in (400, 900):
        order = rng.permutation(count)
        if count == 400:
            moved = search(
                templates_of(gallery.subjects[order]), probes, (left[0][order], left[1][order]), right, MEMORY
            )
            assert all(map(np.array_equal, moved, (mate, rank, alarm)))
        else:
            moved = search(
                gallery, templates_of(probes.subjects[order]), left, (right[0][order], right[1][order]), MEMORY
            )
            assert all(np.array_equal(np.sort(one), np.sort(other)) for one, other in zip(moved, (mate, rank, alarm)))


def test_curves_are_the_numbers_at_more_places():
    rng = np.random.default_rng(2)
    mate, alarm = tied_scores(rng, 300), tied_scores(rng, 90)
    rank = np.where(np.isneginf(mate), MISSED, rng.integers(1, 30, 300)).astype(np.int32)
    options = EvaluationOptions()
    assert cmc_curve(rank, [1, 5, 29]).tolist() == [np.mean(rank <= k) for k in (1, 5, 29)]
    fpirs = curve_fars(90)
    for fpir, rate in zip(fpirs[:-1], dir_curve(mate, rank, alarm, fpirs, options)):
        assert rate == tpir_at_fpir(mate, rank, alarm, fpir, options).tar


@pytest.mark.parametrize('rule', ['exact', 'insightface'])
def test_identity_is_found_always(rule):
    protocol, features = identity_protocol()
    report = evaluate_templates(protocol, features, options=EvaluationOptions(roc_rule=rule, fpirs=(0.1, 0.5)))
    for name in ('rank-1', 'rank-5', 'rank-10', 'tpir@fpir=0.1', 'tpir@fpir=0.5', 'tar@far=1e-1', 'auc'):
        assert report['summary'][name].items() >= dict(mean=1, std=0, over=2).items(), name
