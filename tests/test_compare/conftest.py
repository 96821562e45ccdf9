import pytest


@pytest.fixture(autouse=True)
def one_core(monkeypatch):
    """A run takes its share of the cores; two threads of networks as small as these wait for each other, at work meanwhile."""
    monkeypatch.setattr('os.cpu_count', lambda: 1)
