"""Detection needs mmcv's compiled ops; a machine without them runs the rest of the suite."""

try:
    import mmcv.ops  # noqa: F401
except ImportError:
    collect_ignore_glob = ['test_*.py']
