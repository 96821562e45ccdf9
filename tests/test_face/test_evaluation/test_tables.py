"""Tables of an evaluation: what they print of the numbers, and models side by side."""

import numpy as np
from metric_helpers import random_protocol

from mmsskd.face.evaluation.evaluate import evaluate_templates
from mmsskd.face.evaluation.options import EvaluationOptions
from mmsskd.face.evaluation.tables import compare_reports, format_report


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
