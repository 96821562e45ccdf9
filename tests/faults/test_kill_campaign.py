"""Runs that are killed, again and again, end as those that are not; the whole campaign is ``kill_campaign.py`` beside this."""

from pathlib import Path

import pytest
from helpers import warm_python

CAMPAIGN = Path(__file__).with_name('kill_campaign.py')


@pytest.mark.parametrize(
    ('kills', 'cases', 'seed'),
    [(4, 2, 1), pytest.param(5, 5, 2, marks=pytest.mark.slow)],
    ids=['two runs', 'five runs'],
)
def test_killed_runs_end_as_if_they_were_not(kills, cases, seed):
    done = warm_python(CAMPAIGN, '--kills', kills, '--cases', cases, '--seed', seed, timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr
