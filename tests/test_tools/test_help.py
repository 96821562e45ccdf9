"""What each tool says of itself, and what it says of a wrong argument."""

import re
import runpy
import sys

import pytest
from helpers import ROOT

TOOLS = [path for path in sorted((ROOT / 'tools').rglob('*.py')) if 'ToolParser(' in path.read_text()]
TOOLS.append(ROOT / 'tools/distill.py')


def run(tool, argument, capsys, monkeypatch):
    """Exit code, stdout and stderr of a tool in this process."""
    monkeypatch.setattr(sys, 'argv', [str(tool), argument])
    monkeypatch.setattr(sys, 'path', [str(tool.parent), *sys.path])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(tool), run_name='__main__')
    return ended.value.code, *capsys.readouterr()


@pytest.mark.parametrize('tool', TOOLS, ids=lambda tool: tool.stem)
def test_help_and_a_wrong_argument(tool, capsys, monkeypatch):
    """Help fits a terminal, begins with one sentence, has an example, and explains each argument; an error is short."""
    monkeypatch.setenv('COLUMNS', '200')
    code, said, _ = run(tool, '--help', capsys, monkeypatch)
    usage, first, *_ = said.split('\n\n')
    example = f'python {tool.relative_to(ROOT)} '
    assert code == 0 and usage.startswith('usage: ') and f'\nexample:\n  {example}' in said
    assert re.match(r'[A-Z][^\n]+(\n[^\n]+)?[.:]$', first), first
    assert max(map(len, said[: said.index('\nexample:')].splitlines())) <= 120
    arguments = said[re.search(r'^\w+ arguments:|^options:', said, re.M).start() : said.index('\nexample:')]
    assert not re.findall(r'^  (\S(?:(?!  ).)*)$(?!\n {10})', arguments, re.M), 'an argument without a word on it'
    for name, value in re.findall(r'--([\w-]+) \[?([A-Z_]+)', said):
        assert value != name.upper().replace('-', '_'), f'the placeholder of --{name} says nothing'
    code, _, said = run(tool, '--no-such-option', capsys, monkeypatch)
    assert code == 2 and said.startswith('error: ') and example in said and len(said.splitlines()) <= 4
