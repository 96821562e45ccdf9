"""Detection needs mmcv's compiled ops; a machine without them runs the rest of the suite."""


def pytest_ignore_collect(collection_path):
    try:
        import mmcv.ops  # noqa: F401
    except ImportError:
        return collection_path.name.startswith('test_') or None
