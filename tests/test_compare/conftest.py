import pytest
from helpers import GPU


@pytest.fixture(autouse=True)
def forked_workers(monkeypatch):
    """Workers need not import everything again; that they can be started anew too, tests of whole comparisons show."""
    if not GPU:
        monkeypatch.setattr('mmsskd.compare.workers.START', 'fork')
