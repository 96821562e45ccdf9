"""docs/quickstart.ipynb: its cells, one after the other."""

import json

import pytest
from helpers import ROOT, warm_python
from mmengine.config import Config

CELLS = json.loads((ROOT / 'docs/quickstart.ipynb').read_text())['cells']


def test_no_output_is_kept():
    assert all(not cell['outputs'] and cell['execution_count'] is None for cell in CELLS if cell['cell_type'] == 'code')


@pytest.mark.slow
def test_the_cells_run(tmp_path):
    """As they stand, but for the number of photos and of epochs."""
    code = '\n'.join(''.join(cell['source']) for cell in CELLS if cell['cell_type'] == 'code')
    for long, short in (('[:50]', '[:12]'), ('epochs=8', 'epochs=3')):
        assert code.count(long) == 1
        code = code.replace(long, short)
    result = warm_python('-c', code, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    out = tmp_path / 'quickstart/out'
    assert Config.fromfile(out / 'student.py').model.head.num_classes == 4 and (out / 'report.html').is_file()
    assert "'accuracy/top1': " in result.stdout and 'parameters' in result.stdout and ' shows ' in result.stdout
