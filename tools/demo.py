#!/usr/bin/env python
"""Watch knowledge move from a teacher into a smaller student, stage by stage, on real images that need no download.

Trains teacher, plain student and student stage by stage, then prints a table and writes a page. `make demo` runs this.
"""

import importlib
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))  # the tasks beside this file, however it was started

from demo_steps import run
from mmengine.logging import MMLogger

import mmsskd  # noqa: F401  before configs are read, so that `mmsskd::` resolves in them
from mmsskd.cli import plain_errors
from mmsskd.utils.arguments import ToolParser

TASKS = ('classification', 'detection', 'face')


def main():
    parser = ToolParser(__doc__, 'python tools/demo.py detection')
    what = 'handwritten digits (default), digits on photos, the ORL faces, or all three'
    parser.add_argument('task', nargs='?', default=TASKS[0], choices=[*TASKS, 'all'], help=what)
    parser.folder('--out', 'runs and pages', 'work_dirs/demo')
    what = 'change keys of the config of every training'
    parser.add_argument('--cfg-options', nargs='+', default=[], metavar='KEY=VALUE', help=what)
    args = parser.parse_args()
    start = time.time()
    MMLogger.get_current_instance().setLevel('ERROR')
    pages = []
    for name in TASKS if args.task == 'all' else [args.task]:
        pages.append(args.out / f'{name}.html')
        print(f'=== {name}')
        run(importlib.import_module(f'demo_{name}').TASK, args.out, args.cfg_options, pages[-1])
    print(f'\n{" and ".join(map(str, pages))}: the same in pictures ({time.time() - start:.0f} seconds in all)')


if __name__ == '__main__':
    with plain_errors():
        main()
