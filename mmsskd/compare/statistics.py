"""Statistics of a few seeds: mean, spread, and the share of the gap that an arm closes."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

LEAST_GAP = 3.0  # points
LEVEL = 0.95  # of intervals


@dataclass(frozen=True)
class GapClosed:
    """Share of the gap between plain student and teacher that an arm closes: 0 is the plain student, 1 the teacher.

    Attributes:
        share: Ratio of the means; None where no share is quoted.
        low, high: Its 95 % confidence interval; None with one seed, or where the gap is so uncertain that there is no bound.
        reason: Why no share is quoted.
    """

    share: float | None
    low: float | None = None
    high: float | None = None
    reason: str = ''


def mean_std(values: Sequence[float] | np.ndarray) -> tuple[float, float | None]:
    """Mean and standard deviation (n - 1) of ``values``; None for the deviation of a single one."""
    return float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else None


def why_no_gap(plain: Sequence[float], teacher: Sequence[float]) -> str:
    """Say why a share of the gap between ``plain`` and ``teacher`` means nothing; empty where it means something.

    Args:
        plain, teacher: Points of 100, one for each seed.
    """
    gap, spread = mean_std(np.subtract(teacher, plain))
    if gap < LEAST_GAP:
        return f'the teacher is {gap:.1f} points above the plain student, less than {LEAST_GAP:.0f}'
    if spread is not None and gap < 2 * spread / math.sqrt(len(plain)):
        return f'the gap of {gap:.1f} points is less than twice its standard error {spread / math.sqrt(len(plain)):.1f}'
    return ''


def gap_closed(arm: Sequence[float], plain: Sequence[float], teacher: Sequence[float]) -> GapClosed:
    """(arm - plain) / (teacher - plain), of means over seeds.

    The interval is Fieller's (J. R. Stat. Soc. B 16, 1954, 175-185) for a ratio of two means that were measured together: each
    seed gives one of each. It holds for normal errors, also where the gap itself is uncertain.

    Args:
        arm, plain, teacher: Points of 100; the values at one place are of one seed.
    """
    reason = why_no_gap(plain, teacher)
    if reason:
        return GapClosed(None, reason=reason)
    over, gap = np.subtract(arm, plain), np.subtract(teacher, plain)
    share = float(over.mean() / gap.mean())
    count = len(over)
    if count < 2:
        return GapClosed(share)
    k = stats.t.ppf(0.5 + LEVEL / 2, count - 1) ** 2 / count
    covariance = np.cov(over, gap, ddof=1)
    a = gap.mean() ** 2 - k * covariance[1, 1]
    b = over.mean() * gap.mean() - k * covariance[0, 1]
    c = over.mean() ** 2 - k * covariance[0, 0]
    if a <= 0:  # the gap does not differ from 0 at this level: every share is possible
        return GapClosed(share)
    root = math.sqrt(max(b * b - a * c, 0.0))
    return GapClosed(share, float((b - root) / a), float((b + root) / a))
