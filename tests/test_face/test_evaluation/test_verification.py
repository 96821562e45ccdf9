"""Scores of pairs."""

import numpy as np

from mmsskd.face.evaluation.verification import pair_scores, score_blocks


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
