#!/usr/bin/env python
"""Try pairs of teacher and student: two iterations a phase on tiny images, and an export.

Each pair runs in a process of its own and leaves a JSON file. A pair that has one is not run again, so an interrupted table goes
on. Weights are random and images are noise: this shows whether a pair works, not how well.
"""

import json
import multiprocessing
import sys
import tempfile
import traceback
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))  # the list beside this file, however it was started

from pairs_list import PAIRS, Pair

from mmsskd.cli import plain_errors
from mmsskd.errors import ConfigError, candidates
from mmsskd.utils.arguments import ToolParser
from mmsskd.utils.files import replacing

PAGE = """\
# Pairs that were run

{works} of {total} pairs work as the row says, without another line; {line} with one line more; {refused} are refused, with the reason. Every pair was built from the stock configs of its package, trained for two iterations in each phase (each stage alone, then the head) with random weights on two images of noise, and exported. In each phase all that it does not train stayed as it was to the bit; at the end the student's weights loaded strictly into the plain student, and the features at the taps of both networks equaled those of whole forwards. So the table says what can be distilled, not how well. Results are kept by pair, so rows were run as the code grew, not all at one commit.

`python tools/pairs.py` runs it again (a process a pair; a pair that has a result is left out), and `python tools/pairs.py --page docs/pairs.md` writes this page.
"""  # noqa: E501
BY_HAND = '\n## A foundation teacher'  # from here on the page stays as it is
HEADER = '| teacher | student | in the config besides | stages (adapters) | |\n| --- | --- | --- | --- | --- |\n'


def main():
    parser = ToolParser(__doc__, 'python tools/pairs.py --out work_dirs/pairs')
    parser.add_argument('names', nargs='*', help='pairs to run, by the names in tools/pairs_list.py; default: all')
    parser.folder('--out', 'the results', 'work_dirs/pairs')
    parser.add_argument('--page', type=Path, metavar='FILE', help='only write the table of the results to this file')
    args = parser.parse_args()
    pairs = {pair.name: pair for pair in PAIRS}
    for name in args.names:
        if name not in pairs:
            raise ConfigError(f'there is no pair {name!r}; {candidates(name, pairs)}')
    args.out.mkdir(parents=True, exist_ok=True)
    if args.page:
        write_page(args.out, args.page)
        return
    import mmdet.models  # noqa: F401  here once, not in each process
    import mmpretrain.models  # noqa: F401
    import pairs_run  # noqa: F401

    for name in args.names or pairs:
        result = args.out / f'{name}.json'
        if not result.is_file():
            process = multiprocessing.get_context('fork').Process(target=run, args=(pairs[name], result))
            process.start()
            process.join()
            if process.exitcode:
                result.write_text(json.dumps(dict(result='failed', why=f'its process ended with {process.exitcode}')))
        print(f'{name}: {json.loads(result.read_text())["result"]}', flush=True)


def run(pair: Pair, result: Path) -> None:
    """Run a pair and write what came out."""
    from pairs_run import run_pair

    with tempfile.TemporaryDirectory() as folder, replacing(result) as part:
        try:
            found = run_pair(pair, folder)
        except Exception:
            found = dict(result='failed', why=traceback.format_exc())
        Path(part).write_text(json.dumps(found, indent=1))


def write_page(out: Path, page: Path) -> None:
    """Write the table of the results in ``out``.

    Raises:
        ConfigError: A pair has not been run.
    """
    missing = [pair.name for pair in PAIRS if not (out / f'{pair.name}.json').is_file()]
    if missing:
        raise ConfigError(f'{len(missing)} pairs have not been run ({", ".join(missing[:5])}); python tools/pairs.py')
    results = [json.loads((out / f'{pair.name}.json').read_text()) for pair in PAIRS]
    counts = [sum(result['result'] == word for result in results) for word in ('works', 'line')]
    refused = len(results) - sum(counts)
    text = PAGE.format(works=counts[0], total=len(results), line=counts[1], refused=refused)
    for title in dict.fromkeys(pair.group for pair in PAIRS):
        rows = [row(pair, result) for pair, result in zip(PAIRS, results) if pair.group == title]
        text += f'\n## {title}\n\n{HEADER}' + ''.join(rows)
    _, *rest = (page.read_text() if page.is_file() else '').partition(BY_HAND)
    page.write_text(''.join([text, *rest]))


def row(pair: Pair, result: dict) -> str:
    """One line of the table."""
    why = ' '.join(result.get('why', '').split()).replace('|', '/')
    why = why if len(why) <= 300 else f'{why[:300]} ...'
    ends = {'works': 'works', 'line': f'works with `{pair.line}`', 'refused': f'refused: {why}'}
    verdict = ends.get(result['result'], f'fails: {why}')
    stages = ', '.join(result.get('stages', ())) or '-'
    adapted = f' ({result["adapters"]})' if result.get('adapters') else ''
    options = f'`{pair.shown}`' if pair.shown else ''
    return f'| {pair.teacher_name} | {pair.student_name} | {options} | {stages}{adapted} | {verdict} |\n'


if __name__ == '__main__':
    with plain_errors():
        main()
