#!/usr/bin/env python
"""Watch knowledge move from a teacher into a smaller student, stage by stage, on real images that need no download.

`make demo` runs this: trainings with tools/train.py on the configs that the task names, then a table, and a page of pictures in
work_dirs/demo. Tasks: classification (handwritten digits), detection (handwritten digits on photos),
face (the ORL faces), all.
"""

import argparse
import importlib
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))  # the tasks beside this file, however it was started

from demo_steps import run
from mmengine.logging import MMLogger

import mmsskd  # noqa: F401  before configs are read, so that `mmsskd::` resolves in them
from mmsskd.cli import plain_errors

TASKS = ('classification', 'detection', 'face')


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('task', nargs='?', default=TASKS[0], choices=[*TASKS, 'all'])
    parser.add_argument('--out', type=Path, default=Path('work_dirs/demo'), help='folder for runs and pages')
    parser.add_argument('--cfg-options', nargs='+', default=[], metavar='KEY=VALUE', help='passed on to every training')
    args = parser.parse_args()
    start = time.time()
    MMLogger.get_instance('mmengine', log_level='ERROR')
    pages = []
    for name in TASKS if args.task == 'all' else [args.task]:
        pages.append(args.out / f'{name}.html')
        print(f'=== {name}')
        run(importlib.import_module(f'demo_{name}').TASK, args.out, args.cfg_options, pages[-1])
    print(f'\n{" and ".join(map(str, pages))}: the same in pictures ({time.time() - start:.0f} seconds in all)')


if __name__ == '__main__':
    with plain_errors():
        main()
