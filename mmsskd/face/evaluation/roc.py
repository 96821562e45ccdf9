"""Rates of true and false accepts from lists of scores: the exact rule, and InsightFace's for replication."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

from ...errors import ConfigError

EPSILON = 1e-9  # 0.001 * 9000 is 8.999..., and 9 false accepts are allowed


@dataclass(frozen=True)
class OperatingPoint:
    """A point of a ROC: the share of genuine scores that is accepted where so many of the impostors are.

    Attributes:
        far: The false accept rate asked for, 0 to 1.
        tar: Share of genuine scores above the threshold; None where ``far`` cannot be resolved.
        threshold: Scores above it (never equal to it) are accepted; None where there is none. -inf: all but failures to enrol.
        k: False accepts: allowed ones under the exact rule, ``floor(far * impostors)``; those there are under InsightFace's.
        impostors, genuine: Lengths of the lists, failures to enrol included.
        realised_far: Share of impostor scores above the threshold.
        reason: Why the point cannot be resolved, empty where it can.
    """

    far: float
    tar: float | None
    threshold: float | None
    k: int
    impostors: int
    genuine: int
    realised_far: float | None
    reason: str = ''

    @property
    def resolvable(self) -> bool:
        return not self.reason

    def as_dict(self) -> dict:
        """Convert for JSON, which has no infinity: a threshold that all but failures pass is None there."""
        values = asdict(self) | dict(resolvable=self.resolvable)
        if self.threshold is not None and not np.isfinite(self.threshold):
            values['threshold'] = None
        return values


def tar_at_far(genuine: np.ndarray, impostor: np.ndarray, far: float, rule: str = 'exact') -> OperatingPoint:
    """True accept rate at a false accept rate.

    ``exact``: with N impostors, k = floor(far * N) and t the (k+1)-th largest impostor score, a score is accepted iff it is above
    t. So there are at most k false accepts, ties or not, and no point is invented between scores. Where k is 0 though ``far`` is
    not, N cannot resolve it; ``far=0`` itself asks for the TAR without any false accept.

    ``insightface``: as ``ijb_11.py`` and ``eval_ijbc.py`` of https://github.com/deepinsight/insightface: the ROC of scikit-learn
    with points dropped where neither count's step changes, reversed, the first point whose rate is nearest to ``far``. Its
    realized rate may be above ``far``, and it gives a number however few the impostors.

    Args:
        genuine, impostor: (G,) and (N,) scores, larger for more alike; -inf is a failure to enrol, never accepted, in every
            denominator. Ascending lists are not sorted again.
        far: 0 to below 1.
        rule: ``'exact'`` or ``'insightface'``.

    Raises:
        ConfigError: A score is NaN, or the rule is unknown.
    """
    return operating_points(genuine, impostor, [far], rule)[0]


def operating_points(
    genuine: np.ndarray, impostor: np.ndarray, fars: Sequence[float], rule: str = 'exact'
) -> list[OperatingPoint]:
    """:func:`tar_at_far` at each of several rates, from one sort of the scores and one ROC."""
    genuine, impostor = ascending(genuine, 'genuine'), ascending(impostor, 'impostor')
    if rule not in ('exact', 'insightface'):
        raise ConfigError(f"roc_rule: found {rule!r}; allowed: 'exact', 'insightface'")
    count = len(impostor)
    if not count or not len(genuine):
        reason = f'no {"impostor" if not count else "genuine"} scores'
        return [OperatingPoint(far, None, None, 0, count, len(genuine), None, reason) for far in fars]
    if rule == 'exact':
        allowed = [allowed_false_accepts(far, count) for far in fars]
        thresholds = [impostor[count - 1 - k] for k in allowed]
    else:
        allowed = [None] * len(fars)
        thresholds = _insightface_thresholds(genuine, impostor, fars)
    points = []
    for far, k, threshold in zip(fars, allowed, thresholds):
        if k == 0 and far > 0:
            reason = f'N = {count} resolves no rate below {1 / count:.2g}'
            points.append(OperatingPoint(far, None, None, 0, count, len(genuine), None, reason))
            continue
        false = count - int(np.searchsorted(impostor, threshold, 'right'))
        true = len(genuine) - int(np.searchsorted(genuine, threshold, 'right'))
        k = false if k is None else k
        tar = true / len(genuine)
        points.append(OperatingPoint(far, tar, float(threshold), k, count, len(genuine), false / count))
    return points


def allowed_false_accepts(rate: float, count: int) -> int:
    """floor(rate * count), whatever way ``rate`` was rounded; below ``count``."""
    return max(0, min(int(np.floor(rate * count + EPSILON)), count - 1))


def _insightface_thresholds(genuine: np.ndarray, impostor: np.ndarray, fars: Sequence[float]) -> list:
    """The thresholds, accept iff above, of the points that InsightFace's scripts pick; lists ascending."""
    # scores are distinct thresholds of "accept iff not below", the highest first
    values = np.concatenate((genuine, impostor))
    values.sort(kind='stable')  # two ascending runs: merged, not sorted
    values = values[np.concatenate(([True], values[1:] != values[:-1]))][::-1]
    true = (len(genuine) - np.searchsorted(genuine, values, 'left')).astype(np.int32)
    false = (len(impostor) - np.searchsorted(impostor, values, 'left')).astype(np.int32)
    keep = np.ones(len(values), bool)
    if len(values) > 2:
        keep[1:-1] = (np.diff(true, 2) != 0) | (np.diff(false, 2) != 0)
    kept = np.flatnonzero(keep)
    rates = np.concatenate(([0.0], false[kept] / len(impostor)))
    thresholds = []
    for far in fars:
        nearest = (
            len(rates) - 1 - int(np.argmin(np.abs(rates[::-1] - far)))
        )  # of equals the last, whose TAR is the largest
        # "not below the value" is "above the next value below it"; below the last there is -inf, which no failure is above
        below = kept[nearest - 1] + 1 if nearest else 0
        thresholds.append(values[below] if below < len(values) else values.dtype.type(-np.inf))
    return thresholds


def curve_fars(impostors: int, points: int = 500) -> np.ndarray:
    """(<= points,) false accept rates from 1 / impostors to 1, evenly spread on a logarithmic axis, each a count of impostors."""
    if impostors < 1:
        return np.zeros(0)
    counts = np.unique(np.round(np.geomspace(1, impostors, points)).astype(np.int64))
    return counts / impostors


def roc_curve(genuine: np.ndarray, impostor: np.ndarray, fars: Sequence[float] | np.ndarray) -> np.ndarray:
    """(K,) true accept rates under the exact rule at K false accept rates, also at those that N cannot resolve (k = 0).

    Raises:
        ConfigError: A score is NaN, or there are no genuine or no impostor scores.
    """
    genuine, impostor = ascending(genuine, 'genuine'), ascending(impostor, 'impostor')
    if not len(genuine) or not len(impostor):
        raise ConfigError(f'a ROC needs scores of both kinds, found {len(genuine)} genuine, {len(impostor)} impostor')
    counts = np.array([allowed_false_accepts(far, len(impostor)) for far in fars], np.int64)
    thresholds = impostor[len(impostor) - 1 - counts]
    # at a rate of 1 all but failures to enrol are accepted
    thresholds = np.where(np.asarray(fars) >= 1, -np.inf, thresholds).astype(impostor.dtype)
    return (len(genuine) - np.searchsorted(genuine, thresholds, 'right')) / len(genuine)


def auc(genuine: np.ndarray, impostor: np.ndarray) -> float | None:
    """Area under the ROC: how often a genuine score is above an impostor score, ties counted half (Mann-Whitney).

    None where there are no scores of one kind.
    """
    genuine, impostor = ascending(genuine, 'genuine'), ascending(impostor, 'impostor')
    if not len(genuine) or not len(impostor):
        return None
    below = int(np.searchsorted(impostor, genuine, 'left').sum())
    not_above = int(np.searchsorted(impostor, genuine, 'right').sum())
    return (below + not_above) / (2 * len(genuine) * len(impostor))


def ascending(scores: np.ndarray, name: str) -> np.ndarray:
    """The scores in ascending order: themselves where they are already, a sorted copy else.

    Raises:
        ConfigError: A score is NaN: it would end up as the best or the worst of all, by accident of the sort.
    """
    scores = np.asarray(scores)
    if scores.dtype.kind != 'f':
        scores = scores.astype(np.float64)
    if len(scores) and np.isnan(scores.min()):
        number = int(np.isnan(scores).sum())
        raise ConfigError(
            f'{number} of {len(scores)} {name} scores are NaN (the first at {int(np.isnan(scores).argmax())}); '
            'a failure to enrol scores -inf'
        )
    if len(scores) > 1 and (scores[1:] < scores[:-1]).any():
        scores = np.sort(scores)
    return scores
