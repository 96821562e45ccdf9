"""Runs that are killed, again and again, end as those that are not; the whole campaign is ``kill_campaign.py`` beside this."""

from pathlib import Path

import pytest
from helpers import warm_python

CAMPAIGN = Path(__file__).with_name('kill_campaign.py')


@pytest.mark.slow
def test_killed_runs_end_as_if_they_were_not():
    """With this seed: three schedules, epochs and iterations; without workers, with some, and with some that persist."""
    done = warm_python(CAMPAIGN, '--kills', 5, '--cases', 3, '--seed', 3, timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr
