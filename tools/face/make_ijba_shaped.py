#!/usr/bin/env python
"""Write an IJB-A-shaped evaluation set from a folder that has one sub-folder of images for each person.

The set has NIST's exact layout and the peculiarities of the original, so whatever reads IJB-A reads it. Nothing of NIST's is in it.
The same images, options and seed give the same set.
"""

import json
from pathlib import Path

from mmsskd.cli import plain_errors
from mmsskd.face.evaluation.protocols.ijba_writer import write_ijba_shaped
from mmsskd.utils.arguments import ToolParser

if __name__ == '__main__':
    parser = ToolParser(__doc__, 'python tools/face/make_ijba_shaped.py data/people data/ijba_shaped --splits 2')
    parser.add_argument('folder', help='folder of six people or more, each a folder with four images or more')
    parser.add_argument('out_dir', help='folder to write')
    parser.number('--splits', 'number of splits', 10)
    parser.number('--seed', 'other seeds give other sets', 0)
    parser.add_argument(
        '--test-share',
        type=float,
        default=2 / 3,
        metavar='SHARE',
        help='of the people, tested in each split; default: two thirds',
    )
    parser.number('--impostors', 'most impostor pairs in a split', 10000)
    parser.number('--missing', 'remove N image files, as if they were lost', 0)
    args = parser.parse_args()
    with plain_errors():
        written = write_ijba_shaped(**vars(args))
        info = json.loads((Path(args.out_dir) / 'info.json').read_text())
        print(f'{args.out_dir}: ' + ('written' if written else 'already there, nothing to do'))
        for split, counts in info['counts'].items():
            print(f'{split:8}' + ', '.join(f'{count} {name}' for name, count in counts.items()))
        few = info['too_few_images']
        print(f'{info["people"]} people; left out for having fewer than four images: {", ".join(few) or "none"}')
        if info['removed']:
            print(f'removed: {", ".join(info["removed"])}')
