"""Processes that are forked from a warm one are like those that are started: in what they see, print and end with."""

import pytest
from helpers import python, warm_python

SEES = """
import os, sys, json, signal
main = sys.modules['__main__']
print(json.dumps([sys.argv, os.getcwd(), os.environ.get('WARM'), sys.path, main.__name__, getattr(main, '__file__', None),
                  'mmsskd' in sys.modules, 'helpers' in sys.modules, sorted(k for k in os.environ if k != 'OMP_NUM_THREADS')]))
print('to the other', file=sys.stderr)
end = sys.argv[1]
if end == 'raise': raise ValueError('of the script')
if end == 'kill': os.kill(os.getpid(), signal.SIGKILL)
sys.exit({'text': 'a word', 'number': 3, 'nothing': None}[end])
"""


@pytest.mark.slow
@pytest.mark.parametrize('end', ['raise', 'kill', 'text', 'number', 'nothing'])
@pytest.mark.parametrize('kind', ['file', 'text'])
def test_it_is_like_a_fresh_one(tmp_path, kind, end):
    (tmp_path / 'script.py').write_text(SEES)
    what = [tmp_path / 'script.py'] if kind == 'file' else ['-c', SEES]
    fresh, warm = (call(*what, end, cwd=tmp_path, WARM='yes', PYTHONPATH='/own') for call in (python, warm_python))
    assert warm.stdout == fresh.stdout and warm.returncode == fresh.returncode
    assert 'to the other' in warm.stderr and warm.stderr.splitlines()[-1] == fresh.stderr.splitlines()[-1]
