"""The command line of ``mmsskd distill`` and tools/distill.py."""

import argparse
import sys
from collections.abc import Sequence

from ..utils.arguments import ToolParser
from . import add_trust_argument, plain_errors
from .train import add_watch_arguments


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the arguments and make the call; a mistake is one message and exit code 1."""
    parser = ToolParser(
        'Teach a student on a folder of images: look at the data, choose the recipe, train, write the student and a report.',
        f'{"python tools/distill.py" if arguments is None else "mmsskd distill"} --teacher resnet34 --student resnet18 '
        '--data my_photos --out work_dirs/mine',
        prog=None if arguments is None else 'mmsskd distill',
    )
    model = 'name in mmpretrain or mmdet, such as resnet34; a config file'
    needed = {
        '--teacher': ('MODEL', f'{model}; or timm:NAME, torchvision:NAME, transformers:NAME'),
        '--student': ('MODEL', model),
        '--data': ('DIR', 'folder of images; docs/one_call.md lists its forms'),
        '--out': ('DIR', 'folder for configs, checkpoints, student and report'),
    }
    for name, (metavar, what) in needed.items():
        parser.add_argument(name, required=True, metavar=metavar, help=what)
    parser.number('--epochs', 'of the student, and of the teacher if it is trained; default: 20, detectors 12')
    parser.add_argument('--task', choices=['classification', 'detection'], help='default: what the folder holds')
    size = 'side of the square images, pixels; default: that of the photos, at most that of the student’s config'
    parser.number('--size', size)
    parser.number('--batch-size', 'images a step; default: that of the config, fewer for few images')
    parser.add_argument(
        '--teacher-checkpoint',
        metavar='FILE',
        help="file or URL of the teacher's weights, or zoo for those of the model zoo; default: train the teacher first",
    )
    parser.add_argument(
        '--features-only',
        action='store_true',
        help='do not train the teacher, even if it knows other classes: the student follows its features',
    )
    parser.add_argument(
        '--recipe',
        metavar='NAME',
        help="'default', 'then all', 'recommended' or 'projector'; without it the best of your case, see docs/one_call.md",
    )
    parser.add_argument('--dry-run', action='store_true', help='print stages, cost and time, write the configs, stop')
    # what a run says that a signal has ended; this command always goes on
    parser.add_argument('--resume', action='store_true', help=argparse.SUPPRESS)
    add_watch_arguments(parser)
    add_trust_argument(parser)
    args = parser.parse_args(arguments)
    with plain_errors('the same command') as progress:
        from ..one_call import distill
        from ..utils.trust import trust

        trust(args.trust_checkpoint)
        options = {key: value for key, value in vars(args).items() if key not in ('trust_checkpoint', 'resume')}
        distill(**options, progress=progress)


def console() -> None:
    """The console script ``mmsskd``: ``mmsskd distill ...``."""
    if sys.argv[1:2] != ['distill']:
        print('usage: mmsskd distill --teacher NAME --student NAME --data FOLDER --out FOLDER [...]', file=sys.stderr)
        print('mmsskd distill --help lists the options; other tools are in the folder tools', file=sys.stderr)
        sys.exit(2)
    main(sys.argv[2:])
