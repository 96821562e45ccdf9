"""Whole evaluations of templates: against loops, over splits and galleries, and what tables and files say of them."""

import json
from dataclasses import replace

import numpy as np
import pytest
from metric_helpers import (
    cosine,
    identity_protocol,
    make_faces,
    random_protocol,
    singles,
    slow_pool,
    slow_ranks,
    slow_tar,
)

from mmsskd.errors import ConfigError
from mmsskd.face.evaluation.evaluate import crop_hash, evaluate_templates, flat_metrics
from mmsskd.face.evaluation.options import EvaluationOptions
from mmsskd.face.evaluation.protocol import Split, TemplateProtocol, Verification
from mmsskd.face.evaluation.tables import format_report


def slow_split(split, features, fars, fpirs):
    """The numbers of a split by loops: TAR, ranks, TPIR at rank 1."""
    pooled = slow_pool(split.verification.templates, features)
    scores = np.array([cosine(pooled[a], pooled[b]) for a, b in split.verification.pairs])
    genuine, impostor = scores[split.verification.genuine], scores[~split.verification.genuine]
    numbers = {f'tar {far}': slow_tar(genuine, impostor, far)[0] for far in fars}
    (search,) = split.identification
    gallery, probes = slow_pool(search.gallery, features), slow_pool(search.probes, features)
    matrix = np.array([[cosine(probe, known) for known in gallery] for probe in probes])
    found = slow_ranks(matrix, search.gallery.subjects, search.probes.subjects)
    mated = [one for one in found if one[0] is not None]
    for k in (1, 5, 10):
        numbers[f'rank {k}'] = np.mean([rank is not None and rank <= k for _, rank, _ in mated])
    alarms = np.array([one[2] for one in found if one[0] is None])
    hits = np.array([mate if rank == 1 else -np.inf for mate, rank, _ in mated])
    for fpir in fpirs:
        numbers[f'tpir {fpir}'] = slow_tar(hits, alarms, fpir)[0]
    return numbers


def test_reports_are_those_of_loops():
    options = EvaluationOptions(fars=(0.05, 0.1), fpirs=(0.25, 0.5))
    failed = 0
    for seed in range(40):
        protocol, features = random_protocol(seed)
        report = evaluate_templates(protocol, features, options=options)
        expected = [slow_split(split, features, options.fars, options.fpirs) for split in protocol.splits]
        for split, wanted in zip(report['splits'], expected):
            numbers = {f'tar {point["far"]}': point['tar'] for point in split['verification']['points']}
            (search,) = split['identification']
            numbers |= {f'rank {k}': rate for k, rate in search['ranks'].items()}
            numbers |= {f'tpir {point["fpir"]}': point['tpir'] for point in search['points']}
            assert numbers == pytest.approx(wanted, abs=1e-9), seed
            failed += split['verification']['genuine_failed'] + search['mated_failed'] + search['non_mated_failed']
        for name, key in (('tar@far=5e-2', 'tar 0.05'), ('rank-5', 'rank 5'), ('tpir@fpir=0.5', 'tpir 0.5')):
            values = [wanted[key] for wanted in expected]
            assert report['summary'][name]['mean'] == pytest.approx(np.mean(values))
            assert report['summary'][name]['std'] == pytest.approx(np.std(values))
        assert report['faces']['failed'] == int((~np.isfinite(features).all(1) | ~features.any(1)).sum())
        json.dumps(report, allow_nan=False)
    assert failed > 500


@pytest.mark.parametrize('features', [np.nan, 0, np.inf])
def test_nobody_enrolled_is_nobody_accepted(features):
    protocol, some = random_protocol(0)
    report = evaluate_templates(protocol, np.full_like(some, features), options=EvaluationOptions(fars=0.1, fpirs=0.5))
    assert report['faces']['failed'] == 50
    numbers = flat_metrics(report)
    assert numbers.pop('auc') == 0.5 and numbers and not any(numbers.values())
    for split in report['splits']:
        assert split['verification']['templates_failed'] == 20
        assert split['identification'][0]['gallery']['templates_failed'] == 6


def test_random_features_are_accepted_as_often_as_asked_for():
    rng = np.random.default_rng(0)
    templates = singles(np.zeros(3000))
    pairs = rng.integers(0, 3000, (60_000, 2)).astype(np.int32)
    pairs = pairs[pairs[:, 0] != pairs[:, 1]]
    split = Split('', Verification(templates, pairs, rng.random(len(pairs)) < 0.5))
    protocol = TemplateProtocol('random', make_faces(3000), (split,))
    report = evaluate_templates(protocol, rng.standard_normal((3000, 64)).astype(np.float32))
    for far, name in ((1e-3, 'tar@far=1e-3'), (1e-2, 'tar@far=1e-2'), (1e-1, 'tar@far=1e-1')):
        deviation = np.sqrt(far * (1 - far) / 15_000)
        assert abs(report['summary'][name]['mean'] - far) < 5 * deviation
        assert report['summary'][name]['std'] is None  # of a single split
    assert report['splits'][0]['verification']['points'][0]['realised_far'] <= 1e-3


def test_collapsed_features_give_no_accepts_by_accident_of_rounding():
    protocol, _ = random_protocol(1)
    collapsed = np.tile(np.random.default_rng(0).standard_normal(200).astype(np.float32), (50, 1))
    report = evaluate_templates(protocol, collapsed, options=EvaluationOptions(fars=0.1, fpirs=0.5))
    assert report['summary']['tar@far=1e-1']['mean'] == 0 and report['summary']['auc']['mean'] == 0.5
    assert report['summary']['rank-1']['mean'] == 0 and report['summary']['tpir@fpir=0.5']['mean'] == 0


def test_a_mean_over_splits_of_which_one_is_not_resolvable_is_not():
    protocol, features = random_protocol(2)
    first, second = protocol.splits
    few = replace(second, verification=replace(second.verification, genuine=np.arange(150) < 145))
    report = evaluate_templates(replace(protocol, splits=(first, few)), features, options=EvaluationOptions(fars=0.1))
    assert [split['verification']['points'][0]['resolvable'] for split in report['splits']] == [True, False]
    assert report['splits'][1]['verification']['points'][0]['tar'] is None
    found, k = report['summary']['tar@far=1e-1'], report['splits'][0]['verification']['points'][0]['k']
    assert (found['mean'], found['std'], found['over'], found['realised']) == (None, None, 2, None)
    impostors = int((~first.verification.genuine).sum())
    assert k == impostors // 10 and (found['k'], found['n']) == ([0, k], [5, impostors])
    assert 'tar@far=1e-1' not in flat_metrics(report) and 'auc' in flat_metrics(report)
    text = format_report(report)
    assert (
        f'| tar@far=1e-1 | not resolvable |  | 0 to {k} | 5 to {impostors} |  |  |' in text
        and 'Not resolvable: N = 5 resolves no rate below 0.2.' in text
    )
    none = replace(first, verification=replace(first.verification, genuine=np.ones(150, bool)))
    report = evaluate_templates(replace(protocol, splits=(none,)), features)
    assert 'Not resolvable: no impostor scores.' in format_report(report) and 'roc' not in report['curves']


def test_splits_without_a_task_and_galleries_with_names():
    """IJB-C: two galleries over the same probes; a number is the mean of both."""
    protocol, features = random_protocol(3)
    first, second = protocol.splits
    one, other = first.identification[0], second.identification[0]
    galleries = (replace(one, name='G1'), replace(other, name='G2', probes=one.probes))
    both = replace(protocol, splits=(Split('', first.verification, galleries),))
    report = evaluate_templates(both, features)
    alone = [
        evaluate_templates(replace(protocol, splits=(Split('', None, (gallery,)),)), features) for gallery in galleries
    ]
    for name in ('rank-1', 'rank-5'):
        assert report['summary'][name]['mean'] == np.mean([part['summary'][name]['mean'] for part in alone])
    assert [one['name'] for one in report['splits'][0]['identification']] == ['G1', 'G2']
    assert set(alone[0]['curves']) == {'cmc', 'dir'} and 'tar@far=1e-1' not in alone[0]['summary']
    assert '| G2 |' in format_report(report)


def test_what_must_not_matter_does_not():
    protocol, features = random_protocol(4)
    mirrored = np.random.default_rng(9).standard_normal(features.shape).astype(np.float32)
    report = evaluate_templates(protocol, features, mirrored)
    assert evaluate_templates(protocol, features, mirrored, EvaluationOptions(memory=2**20)) == report
    assert evaluate_templates(protocol, features.astype(np.float64), mirrored.astype(np.float64)) == report
    # faces in another order
    order = np.random.default_rng(1).permutation(50)
    place = np.argsort(order)

    def moved(templates):
        return replace(templates, rows_face=place[templates.rows_face])

    splits = tuple(
        Split(
            split.name,
            replace(split.verification, templates=moved(split.verification.templates)),
            tuple(replace(s, gallery=moved(s.gallery), probes=moved(s.probes)) for s in split.identification),
        )
        for split in protocol.splits
    )
    shuffled = evaluate_templates(replace(protocol, splits=splits), features[order], mirrored[order])
    assert shuffled['splits'] == report['splits'] and shuffled['summary'] == report['summary']
    # features scaled: before pooling each face by itself where that is undone, all alike where it is not
    scaled = features * np.random.default_rng(2).choice([0.5, 2, 4], 50)[:, None].astype(np.float32)
    options = EvaluationOptions(normalize_before_pooling=True)
    first, second = (evaluate_templates(protocol, values, options=options)['summary'] for values in (features, scaled))
    assert first == second != evaluate_templates(protocol, scaled)['summary']
    assert evaluate_templates(protocol, 4 * features)['summary'] == evaluate_templates(protocol, features)['summary']


def test_report_names_its_options_and_crops():
    protocol, features = identity_protocol()
    report = evaluate_templates(protocol, features)
    assert report['options']['flip'] is False and report['options']['roc_rule'] == 'exact'
    assert evaluate_templates(protocol, features, features)['options']['flip'] is True
    faces = protocol.faces
    assert report['crop_hash'] == crop_hash(faces) and len(report['crop_hash']) == 16
    boxes = faces.boxes.copy()
    boxes[3, 2] += 1
    points = np.zeros_like(faces.landmarks)
    changed = [replace(faces, boxes=boxes), replace(faces, landmarks=points), replace(faces, keys=faces.keys[::-1])]
    assert len({crop_hash(other) for other in (faces, *changed)}) == 4
    assert crop_hash(replace(faces, landmarks=-points)) == crop_hash(replace(faces, landmarks=points))  # -0 is 0
    assert crop_hash(replace(faces, boxes=faces.boxes.astype(np.float64), landmarks=-faces.landmarks)) == crop_hash(
        faces
    )


def test_more_failures_than_allowed_stop_it():
    protocol, features = identity_protocol()
    features[:3] = 0
    with pytest.raises(ConfigError, match=r"3 of 60 faces have no usable feature .*allowed: 2 .*'img/0.jpg'"):
        evaluate_templates(protocol, features, options=EvaluationOptions(max_failures=2))
    assert evaluate_templates(protocol, features, options=EvaluationOptions(max_failures=3))['faces']['failed'] == 3
