"""Accuracy of "same person or not" by cross-validation, as LFW asks for."""

import numpy as np

GRID = np.arange(0, 4, 0.01)  # of squared distances, InsightFace's


def fold_accuracy(scores: np.ndarray, genuine: np.ndarray, folds: np.ndarray, rule: str = 'exact') -> dict:
    """Find for each fold the threshold that is best on all others, and the accuracy that it gives on the fold itself.

    ``exact``: accept iff the score is above the threshold; candidates are the midpoints between neighboring distinct scores of
    the other folds, and one below and one at the highest of them; the highest of equally good ones is taken.
    ``insightface``: accept iff the squared distance of the features of length 1, 2 - 2 * score, is below the threshold, one of
    400 from 0 to 3.99; the smallest of equally good ones (``eval/verification.py`` of arcface_torch,
    https://github.com/deepinsight/insightface).

    Args:
        scores: (P,) cosines; -inf is a failure to enrol, which is never accepted.
        genuine: (P,) of bool.
        folds: (P,) numbers of folds.
        rule: ``'exact'`` or ``'insightface'``.

    Returns:
        A dict for JSON: ``mean``, ``std`` (ddof=0 over folds, what InsightFace prints), ``standard_error``
        (std with ddof=1 / sqrt(folds), what LFW's authors ask for), ``folds``: a list of dicts with ``fold``, ``pairs``,
        ``genuine``, ``accuracy`` and ``threshold`` (a cosine; of InsightFace's rule turned into one); and ``warnings``. The
        numbers are None with fewer than two folds.
    """
    names = np.unique(folds)
    warnings, rows = [], []
    if len(names) < 2:
        return dict(
            mean=None,
            std=None,
            standard_error=None,
            folds=[],
            warnings=[f'accuracy needs two folds or more, found {len(names)}'],
        )
    scores = scores.astype(np.float64)
    if rule == 'insightface':
        scores = -(2 - 2 * scores)
    for name in names:
        test = folds == name
        same = int(np.count_nonzero(genuine[test]))
        if same in (0, int(np.count_nonzero(test))):
            warnings.append(f'fold {name} has pairs of one kind only: is the list sorted by kind?')
        threshold = _best_threshold(scores[~test], genuine[~test], rule)
        accepted = scores[test] > threshold
        accuracy = float(np.mean(accepted == genuine[test]))
        cosine = 1 + threshold / 2 if rule == 'insightface' else threshold
        count = int(np.count_nonzero(test))
        rows.append(dict(fold=int(name), pairs=count, genuine=same, accuracy=accuracy, threshold=float(cosine)))
    values = np.array([row['accuracy'] for row in rows])
    return dict(
        mean=float(values.mean()),
        std=float(values.std()),
        standard_error=float(values.std(ddof=1) / np.sqrt(len(values))),
        folds=rows,
        warnings=warnings,
    )


def _best_threshold(scores: np.ndarray, genuine: np.ndarray, rule: str) -> float:
    """The highest of those that get the most pairs right."""
    if rule == 'insightface':
        thresholds = -GRID[::-1]
    else:
        values = np.unique(scores[np.isfinite(scores)])
        if not len(values):
            return 0.0  # nothing can be accepted, whatever the threshold
        thresholds = np.concatenate(([np.nextafter(values[0], -np.inf)], (values[1:] + values[:-1]) / 2, values[-1:]))
    rejected = np.searchsorted(np.sort(scores[genuine]), thresholds, 'right')
    right = np.searchsorted(np.sort(scores[~genuine]), thresholds, 'right') - rejected
    return float(thresholds[len(right) - 1 - np.argmax(right[::-1])])
