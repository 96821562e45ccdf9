"""The command line of ``mmsskd distill`` and tools/distill.py."""

import argparse
import sys
from collections.abc import Sequence

from . import add_trust_argument, plain_errors
from .train import add_watch_arguments


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the arguments and make the call; a mistake is one message and exit code 1."""
    parser = argparse.ArgumentParser(
        prog=None if arguments is None else 'mmsskd distill',
        description='Teach a student on a folder of images: look at the data, choose the recipe, train, and leave the '
        'student and a report.',
    )
    parser.add_argument(
        '--teacher', required=True, help='name of a model of mmpretrain or mmdet (resnet34), or a config'
    )
    parser.add_argument('--student', required=True, help='the same, of the student')
    parser.add_argument('--data', required=True, help='folder of the images, see docs/one_call.md')
    parser.add_argument('--out', required=True, help='folder for configs, checkpoints, student and report')
    parser.add_argument('--epochs', type=int, help='of the student, and of a teacher that is trained; 30, detectors 12')
    parser.add_argument('--task', choices=['classification', 'detection'], help='default: what the folder says')
    parser.add_argument('--size', type=int, help='pixels of the square image; default: as in the config of the student')
    parser.add_argument('--batch-size', type=int, help='images a step; default: as usual, fewer for few images')
    parser.add_argument(
        '--teacher-checkpoint', metavar='FILE', help="file or URL of the teacher's weights; zoo: those of the model zoo"
    )
    parser.add_argument(
        '--features-only', action='store_true', help="follow the teacher's features as it is, whatever classes it knows"
    )
    parser.add_argument(
        '--dry-run', action='store_true', help='print stages, cost and time, write the configs, and stop'
    )
    add_watch_arguments(parser)
    add_trust_argument(parser)
    args = parser.parse_args(arguments)
    with plain_errors() as progress:
        from ..one_call import distill
        from ..utils.trust import trust

        trust(args.trust_checkpoint)
        options = {key: value for key, value in vars(args).items() if key != 'trust_checkpoint'}
        distill(**options, progress=progress)


def console() -> None:
    """The console script ``mmsskd``: ``mmsskd distill ...``."""
    if sys.argv[1:2] != ['distill']:
        print('usage: mmsskd distill --teacher NAME --student NAME --data FOLDER --out FOLDER [...]', file=sys.stderr)
        print('mmsskd distill --help lists the options; other tools are in the folder tools', file=sys.stderr)
        sys.exit(2)
    main(sys.argv[2:])
