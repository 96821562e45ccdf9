#!/usr/bin/env python
"""Compare ways of training one student (plain, KD, stage by stage, ...) at equal epochs and at equal seconds.

Writes results.csv, results.json and results.md into the work dir, anew after each run, and at the end the page index.html. After
an interruption the same command goes on: `timeout -s INT 9m python tools/compare.py FILE` ends after nine minutes, and loses at
most half of one and an epoch.
"""

import fcntl
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import mmsskd  # noqa: F401  before configs are read, so that `mmsskd::` resolves in them
from mmsskd.cli import add_trust_argument, plain_errors
from mmsskd.compare.comparison import Comparison
from mmsskd.compare.page import build_page
from mmsskd.compare.plan import read_plan
from mmsskd.compare.tables import to_csv, to_json, to_markdown, to_text
from mmsskd.errors import ConfigError
from mmsskd.utils.arguments import ToolParser
from mmsskd.utils.files import write_text
from mmsskd.utils.trust import trust


def main():
    parser = ToolParser(__doc__, 'python tools/compare.py configs/experiments/compare/fashion_mnist_2k.py --jobs 2')
    parser.add_argument('file', help='names teacher, arms, epochs and seeds; see configs/experiments/compare')
    parser.add_argument('--work-dir', metavar='DIR', help='of runs and results; default: work_dirs/compare/<FILE>')
    parser.number('--jobs', 'runs at a time; above 1 seconds are measured in separate runs', 1)
    add_trust_argument(parser)
    args = parser.parse_args()
    trust(args.trust_checkpoint)
    plan = read_plan(args.file)
    out = Path(args.work_dir or Path('work_dirs', 'compare', Path(args.file).stem))
    comparison = Comparison(plan, out, max(args.jobs, 1), say=lambda line: print(line, flush=True))

    def write(tables) -> None:
        if tables:
            write_text(out / 'results.csv', to_csv(tables))
            write_text(out / 'results.md', to_markdown(tables))
            write_text(out / 'results.json', to_json(plan, tables, comparison.searched))

    with alone(out):
        tables = comparison.run(write)
        write(tables)
        build_page(plan, tables, comparison.searched, f'python {" ".join(sys.argv)}').write(out / 'index.html')
    for table in tables:
        print(f'\n{to_text(table)}')
    print(f'\n{out}/index.html, results.md, results.csv, results.json')


@contextmanager
def alone(out: Path) -> Iterator[None]:
    """Refuse a second comparison in one work dir: it would train the same runs over those of the first."""
    out.mkdir(parents=True, exist_ok=True)
    with open(out / '.lock', 'w') as lock:  # the system lets go of it with the process, however that ends
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise ConfigError(f'another comparison is at work in {out}; wait, or take another --work-dir') from None
        yield


if __name__ == '__main__':
    with plain_errors():
        main()
