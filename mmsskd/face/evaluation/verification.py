"""Scores of pairs of templates or faces, and the numbers of a 1:1 list."""

from collections.abc import Iterator, Sequence

import numpy as np

from .options import EvaluationOptions
from .roc import auc, operating_points, roc_curve

MATRIX_PAYS = (
    64  # a dot product of two gathered rows takes as long as so many elements of a product of matrices (measured)
)
TILE = 16 * 2**20  # bytes of features that are widened to float64 at a time


def score_blocks(left: np.ndarray, right: np.ndarray, memory: int) -> Iterator[tuple[int, np.ndarray]]:
    """Cosines of all rows of ``left`` with all rows of ``right``, a block of rows after the other.

    Products are summed in float64 and rounded to float32: a BLAS sums in an order that depends on where in the matrix an element
    is, so that in float32 the scores of equal features would differ in the last digit, and no tie would be one.

    Args:
        left, right: (L, D) and (R, D) of float32, rows of length 1.
        memory: Bytes that a block and what it takes to make it may have.

    Yields:
        The number of the block's first row, and the block, (n, R) of float32.
    """
    width = max(left.shape[1], 1)
    tile = min(TILE, memory // 4)
    columns = max(1, min(len(right), tile // (8 * width)))
    rows = max(1, min(len(left), (memory - tile) // (4 * max(len(right), 1) + 8 * (columns + width))))
    for begin in range(0, len(left), rows):
        wide = left[begin : begin + rows].astype(np.float64)
        block = np.empty((len(wide), len(right)), np.float32)
        for first in range(0, len(right), columns):
            block[:, first : first + columns] = wide @ right[first : first + columns].T
        yield begin, block


def pair_scores(features: np.ndarray, valid: np.ndarray, pairs: np.ndarray, memory: int) -> np.ndarray:
    """(P,) of float32: the cosine of each pair; -inf where one of both is a failure to enrol.

    By products of all rows that occur on the left with all that occur on the right where the list is dense enough in that matrix,
    else by one dot product for each pair; both round a sum of float64 to float32.

    Args:
        features: (T, D) of float32, rows of length 1 where valid.
        valid: (T,) of bool.
        pairs: (P, 2), indices of rows.
        memory: Bytes that temporary arrays may take.
    """
    scores = np.empty(len(pairs), np.float32)
    (left, place_left), (right, place_right) = (_occurring(pairs[:, side], len(features)) for side in (0, 1))
    if len(left) * len(right) <= MATRIX_PAYS * len(pairs):
        chunk = max(1, memory // (8 * 16))
        for begin, block in score_blocks(features[left], features[right], memory // 2):
            for first in range(0, len(pairs), chunk):
                rows = place_left[pairs[first : first + chunk, 0]] - begin
                here = np.flatnonzero((rows >= 0) & (rows < len(block)))
                columns = place_right[pairs[first : first + chunk, 1][here]]
                scores[first + here] = block[rows[here], columns]
    else:
        step = max(1, memory // (24 * max(features.shape[1], 1)))
        for first in range(0, len(pairs), step):
            part = pairs[first : first + step]
            one, other = (features[part[:, side]].astype(np.float64) for side in (0, 1))
            scores[first : first + step] = np.einsum('ij,ij->i', one, other)
    if not valid.all():
        scores[~(valid[pairs[:, 0]] & valid[pairs[:, 1]])] = -np.inf
    return scores


def verification_numbers(
    scores: np.ndarray, genuine: np.ndarray, options: EvaluationOptions, fars: Sequence[float] | np.ndarray
) -> tuple[dict, np.ndarray]:
    """The numbers of one list of pairs.

    Args:
        scores: (P,), -inf for failures to enrol.
        genuine: (P,) of bool.
        options: For the rule and the rates.
        fars: (K,) rates for the curve.

    Returns:
        A dict for JSON with counts, one operating point for each rate, and ``auc``; and the (K,) rates of true accepts of the
        curve, empty where there are no scores of one kind.
    """
    accepted, refused = np.sort(scores[genuine]), np.sort(scores[~genuine])
    numbers = dict(
        pairs=len(scores),
        genuine=len(accepted),
        impostors=len(refused),
        genuine_failed=int(np.isneginf(accepted).sum()),
        impostors_failed=int(np.isneginf(refused).sum()),
        points=[point.as_dict() for point in operating_points(accepted, refused, options.fars, options.roc_rule)],
        auc=auc(accepted, refused),
    )
    curve = roc_curve(accepted, refused, fars) if len(accepted) and len(refused) else np.zeros(0)
    return numbers, curve


def _occurring(indices: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Find which of ``count`` rows occur, and for each row its place among those."""
    occurs = np.zeros(count, bool)
    occurs[indices] = True
    return np.flatnonzero(occurs), (np.cumsum(occurs) - 1).astype(np.int32)
