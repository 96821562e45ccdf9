"""What is said of a few seeds, against formulas written down another way."""

import numpy as np
import pytest
from scipy import stats

from mmsskd.compare.statistics import gap_closed, mean_std, why_no_gap

PLAIN, TEACHER, ARM = (80.0, 81.0, 80.4), (86.0, 86.5, 86.9), (84.0, 83.6, 84.8)


def test_mean_and_deviation():
    assert mean_std([1.0, 2.0, 4.0]) == (pytest.approx(7 / 3), pytest.approx(np.sqrt(7 / 3)))
    assert mean_std([5.0]) == (5.0, None)


def test_share_is_the_ratio_of_means():
    gap = gap_closed(ARM, PLAIN, TEACHER)
    assert gap.share == pytest.approx((np.mean(ARM) - np.mean(PLAIN)) / (np.mean(TEACHER) - np.mean(PLAIN)))
    assert gap_closed(PLAIN, PLAIN, TEACHER).share == 0
    assert gap_closed(TEACHER, PLAIN, TEACHER).share == pytest.approx(1)


def test_interval_ends_where_a_paired_t_test_would_reject():
    """Fieller's interval is the set of shares r that a t-test of arm - plain - r (teacher - plain) = 0 does not reject."""
    gap = gap_closed(ARM, PLAIN, TEACHER)
    over, base = np.subtract(ARM, PLAIN), np.subtract(TEACHER, PLAIN)
    for end in (gap.low, gap.high):
        assert stats.ttest_1samp(over - end * base, 0).pvalue == pytest.approx(0.05, abs=1e-6)
    assert gap.low < gap.share < gap.high
    assert stats.ttest_1samp(over - gap.share * base, 0).pvalue > 0.9


def test_the_interval_covers_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(0)
    inside = 0
    for _ in range(400):
        plain, teacher = 80 + rng.normal(size=4), 90 + rng.normal(size=4)
        arm = 85 + rng.normal(size=4)
        gap = gap_closed(arm, plain, teacher)
        inside += gap.low <= 0.5 <= gap.high
    assert 0.92 <= inside / 400 <= 0.98


def test_small_and_uncertain_gaps_are_not_quoted():
    assert '2.0 points' in gap_closed((81.0,), (80.0,), (82.0,)).reason
    assert gap_closed((81.0,), (80.0,), (82.0,)).share is None
    wild = (80.0, 90.0, 70.0), (85.0, 70.0, 100.0)  # 5 points apart on average, with a standard error of 14
    assert 'standard error' in why_no_gap(*wild)
    assert why_no_gap((80.0,), (83.0,)) == ''


def test_one_seed_has_no_interval_and_a_vague_gap_no_bound():
    assert (gap_closed((82.0,), (80.0,), (84.0,)).low, gap_closed((82.0,), (80.0,), (84.0,)).share) == (None, 0.5)
    vague = gap_closed((82.0, 84.0), (80.0, 80.5), (84.0, 87.5))  # more than twice its standard error, but two seeds
    assert vague.share is not None and vague.low is None
