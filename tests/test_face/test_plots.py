"""Curves of an evaluation."""

from dataclasses import replace

import pytest
from metric_helpers import random_protocol

from mmsskd.face.evaluation.evaluate import evaluate_templates
from mmsskd.face.plots import write_face_plots


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
