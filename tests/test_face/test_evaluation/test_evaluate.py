"""Whole evaluations of templates: against loops, over splits and galleries, and what tables and files say of them."""

import json
from dataclasses import replace

import numpy as np
import pytest
from metric_helpers import identity_protocol, make_faces, make_templates, singles, slow_pool, slow_ranks, slow_tar

from mmsskd.errors import ConfigError
from mmsskd.face.evaluation.evaluate import crop_hash, evaluate_templates, flat_metrics
from mmsskd.face.evaluation.nist_output import write_nist_output
from mmsskd.face.evaluation.options import EvaluationOptions
from mmsskd.face.evaluation.protocol import Identification, Split, TemplateProtocol, Verification
from mmsskd.face.evaluation.tables import compare_reports, format_report
from mmsskd.face.evaluation.verification import pair_scores, score_blocks
from mmsskd.face.plots import write_face_plots


def random_templates(rng, count, faces, people):
    rows = count + rng.integers(0, 3 * count)
    owner = np.concatenate((np.arange(count), rng.integers(0, count, rows - count)))
    return make_templates(
        rng.integers(0, people, count), owner, rng.integers(0, faces, rows), rng.integers(0, 20, rows)
    )


def random_protocol(seed, splits=2, faces=50, people=8):
    """Splits with 1:1 and 1:N, and features of which some are failures."""
    rng = np.random.default_rng(seed)
    features = rng.standard_normal((faces, 8)).astype(np.float32)
    features[rng.random(faces) < 0.3] = rng.choice([np.nan, 0])
    made = []
    for number in range(splits):
        templates = random_templates(rng, 20, faces, people)
        pairs = rng.integers(0, 20, (150, 2)).astype(np.int32)
        genuine = templates.subjects[pairs[:, 0]] == templates.subjects[pairs[:, 1]]
        search = Identification('', random_templates(rng, 6, faces, people), random_templates(rng, 40, faces, people))
        made.append(Split(str(number + 1), Verification(templates, pairs, genuine), (search,)))
    return TemplateProtocol('random', make_faces(faces), tuple(made)), features


def cosine(left, right):
    return -np.inf if left is None or right is None else float(left @ right)


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


def test_pairs_score_alike_by_matrix_and_by_row(monkeypatch):
    rng = np.random.default_rng(0)
    features = rng.standard_normal((70, 33)).astype(np.float32)
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    features[5:9] = features[4]
    valid = rng.random(70) < 0.9
    pairs = rng.integers(0, 70, (3000, 2)).astype(np.int32)
    scores = []
    for pays in (0, 10**9):
        monkeypatch.setattr('mmsskd.face.evaluation.verification.MATRIX_PAYS', pays)
        scores += [pair_scores(features, valid, pairs, memory) for memory in (40_000, 2**28)]
    expected = (features[pairs[:, 0]].astype(float) * features[pairs[:, 1]]).sum(axis=1)
    expected[~valid[pairs].all(axis=1)] = -np.inf
    for found in scores:
        assert found.dtype == np.float32 and np.array_equal(found, expected.astype(np.float32))
    assert len(pair_scores(features, valid, pairs[:0], 2**20)) == 0
    (_, block), *_ = score_blocks(features, features, 2**20)
    assert block.dtype == np.float32 and len(np.unique(block[4:9, 4:9])) == 1


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


def test_tables_print_what_numbers_rest_on():
    protocol, features = random_protocol(5)
    report = evaluate_templates(protocol, features, options=EvaluationOptions(fars=(1e-3, 0.1)))
    point = report['splits'][0]['verification']['points'][1]
    text = format_report(report)
    assert 'rule: exact; flip: no; pooling: media, then templates' in text and 'std over 2 splits' in text
    failed = report['faces']['failed']
    assert f'Faces: 50, failures to enrol: {failed} (img/' in text and f'Crops: {report["crop_hash"]}' in text
    row = (
        f'| 1 | 1e-1 | {100 * point["tar"]:.2f} | {point["k"]}{"*" if point["k"] < 10 else ""} | {point["impostors"]} |'
    )
    assert row in text and f'| {point["threshold"]:.4f} | {point["realised_far"]:.3g} |' in text
    assert f'| 1 | 1e-3 | not resolvable | 0 | {point["impostors"]} |' in text
    assert 'fewer than 10 false alarms: the number rests on them' in text and 'mate at rank 1' in text
    report['faces'] |= dict(failures_by_reason={'no file': 7}, aligned_by={'landmarks': 40, 'box': 3})
    text = format_report(report)
    assert 'Failures by reason: no file 7.' in text and 'Aligned by: landmarks 40, box 3.' in text


def test_models_side_by_side():
    protocol, features = random_protocol(6)
    weaker = features + np.random.default_rng(0).standard_normal(features.shape).astype(np.float32)
    reports = {'teacher': evaluate_templates(protocol, features), 'student': evaluate_templates(protocol, weaker)}
    text = compare_reports(reports)
    auc = reports['student']['summary']['auc']
    assert f'{100 * auc["mean"]:.2f} ± {100 * auc["std"]:.2f}' in text and 'mean ± std over 2 splits' in text
    assert text.count(reports['teacher']['crop_hash']) == 2 and 'not measured on the same' not in text
    assert '| teacher | not resolvable |' in text and 'All: rule: exact' in text
    other = evaluate_templates(protocol, features, options=EvaluationOptions(media_pooling=False))
    other['crop_hash'] = '0' * 16
    text = compare_reports(reports | dict(other=other))
    assert 'not measured on the same faces' in text and '**Options differ**' in text and 'a template alike' in text


def test_nist_files(tmp_path):
    protocol, features = random_protocol(7)
    written = write_nist_output(tmp_path / 'nist', protocol, features)
    names = ['split1.matches', 'split1.candidate_lists', 'split2.matches', 'split2.candidate_lists']
    assert [path.name for path in written] == names and sorted(p.name for p in (tmp_path / 'nist').iterdir()) == sorted(
        names
    )
    split = protocol.splits[1]
    lines = [line.split(' ') for line in written[2].read_text().splitlines()]
    assert lines[0][0] == 'ENROLL_TEMPLATE_ID' and lines[0][-1] == 'SIMILARITY_SCORE' and len(lines) == 151
    pooled = slow_pool(split.verification.templates, features)
    for (enrolled, checked), line in zip(split.verification.pairs, lines[1:]):
        sizes = [0 if pooled[one] is None else 32 for one in (enrolled, checked)]
        assert line[:4] == [str(100 + enrolled), str(100 + checked), *map(str, sizes)]
        assert line[4] == ('1' if 0 in sizes else '0')
        assert float(line[5]) == pytest.approx(cosine(pooled[enrolled], pooled[checked]), abs=1e-6)
    (search,) = split.identification
    lines = [line.split(' ') for line in written[3].read_text().splitlines()]
    assert lines[0][:3] == ['SEARCH_TEMPLATE_ID', 'CANDIDATE_RANK', 'ENROLL_TEMPLATE_ID'] and len(lines) == 1 + 40 * 6
    gallery, probes = slow_pool(search.gallery, features), slow_pool(search.probes, features)
    for number, probe in enumerate(probes):
        rows = lines[1 + 6 * number : 7 + 6 * number]
        scores = [cosine(probe, known) for known in gallery]
        assert [row[1] for row in rows] == list('012345') and {row[0] for row in rows} == {str(100 + number)}
        assert [float(row[6]) for row in rows] == pytest.approx(sorted(scores, reverse=True), abs=1e-6)
        assert [scores[int(row[2]) - 100] for row in rows] == pytest.approx([float(row[6]) for row in rows], abs=1e-6)
        assert [row[5] for row in rows] == ['1' if row[6] == '-inf' else '0' for row in rows]
    assert write_nist_output(tmp_path / 'short', protocol, features, candidates=2)[1].read_text().count('\n') == 81
    nameless = replace(protocol, name='my set/1', splits=(Split('', None, (replace(search, name='G1'),)),))
    (path,) = write_nist_output(tmp_path / 'one', nameless, features)
    assert path.name == 'my_set_1_G1.candidate_lists'


@pytest.mark.slow
def test_plots(tmp_path):
    protocol, features = random_protocol(8)
    reports = {'teacher': evaluate_templates(protocol, features), 'student': evaluate_templates(protocol, -features)}
    for curve in reports['teacher']['curves'].values():
        lengths = {len(values) for values in curve.values() if isinstance(values, list)}
        assert len(lengths) == 1 and lengths.pop() <= 1000
    written = write_face_plots(reports, tmp_path)
    names = [f'{name}.{ending}' for name in ('roc', 'det', 'cmc', 'dir') for ending in ('png', 'svg')]
    assert [path.name for path in written] == names and sorted(path.name for path in tmp_path.iterdir()) == sorted(
        names
    )
    for path in written:
        start = path.read_bytes()[:200]
        assert start.startswith(b'\x89PNG') if path.suffix == '.png' else b'<?xml' in start
    only = dict(splits=tuple(replace(split, identification=()) for split in protocol.splits))
    written = write_face_plots(
        {'one': evaluate_templates(replace(protocol, **only), features)}, tmp_path / 'b', ['svg']
    )
    assert [path.name for path in written] == ['roc.svg', 'det.svg']
