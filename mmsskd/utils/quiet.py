"""mmpretrain's data sets, without the line about a package of no use to us that they print to stdout when they are imported."""

import io
from contextlib import redirect_stdout

with redirect_stdout(io.StringIO()):
    from mmpretrain.datasets import BaseDataset

__all__ = ['BaseDataset']
