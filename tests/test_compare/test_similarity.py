"""Centered kernel alignment against another formula."""

import pytest
import torch

from mmsskd.compare.similarity import Gram, linear_cka


def features(*shapes, seed=0):
    rng = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=rng) for shape in shapes]


def gram(*batches) -> torch.Tensor:
    result = Gram()
    for batch in batches:
        result.add((batch,))
    return result.centered()


def test_cka_against_its_other_formula():
    """By the cross-covariance of the features instead of by Gram matrices (equation 3 against 5 of the paper)."""
    x, y = features((40, 6), (40, 9))
    a, b = (f.double() - f.double().mean(0) for f in (x, y))
    expected = (b.T @ a).norm() ** 2 / ((a.T @ a).norm() * (b.T @ b).norm())
    assert linear_cka(gram(x), gram(y)) == pytest.approx(expected.item(), abs=1e-9)


def test_cka_sees_neither_rotation_nor_scale_nor_batches():
    (x,) = features((30, 5))
    rotation = torch.linalg.qr(torch.randn(5, 5, generator=torch.Generator().manual_seed(1)))[0]
    assert linear_cka(gram(x), gram(3 * x @ rotation + 2)) == pytest.approx(1, abs=1e-5)
    assert linear_cka(gram(x), gram(x[:10], x[10:])) == pytest.approx(1, abs=1e-9)
    assert linear_cka(gram(x), gram(features((30, 5), seed=7)[0])) < 0.5
    maps = x[:, :, None, None].expand(30, 5, 8, 8)  # equal at all places: as good as vectors
    assert linear_cka(gram(x), gram(maps)) == pytest.approx(1, abs=1e-5)
