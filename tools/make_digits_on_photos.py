#!/usr/bin/env python
"""Write the detection data set "digits on photos": handwritten digits on crops of two photos, with boxes and masks.

Digits and photos come with scikit-learn, so nothing is downloaded. The folder holds train/ and val/ with COCO annotations in
annotations/, and unlabelled/, images of the same kind without any. The same options give the same bytes.
"""

import argparse

from mmsskd.cli import plain_errors
from mmsskd.datasets.digits_on_photos import write_digits_on_photos

if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        'out_dir', nargs='?', default='data/digits_on_photos', help='folder to write; default %(default)s'
    )
    parser.add_argument('--train', type=int, default=800, help='annotated training images; default %(default)s')
    parser.add_argument('--val', type=int, default=200, help='annotated validation images; default %(default)s')
    parser.add_argument('--unlabelled', type=int, default=800, help='images without annotations; default %(default)s')
    parser.add_argument('--size', type=int, default=160, help='height and width in pixels; default %(default)s')
    parser.add_argument('--seed', type=int, default=0, help='other seeds give other images; default %(default)s')
    args = parser.parse_args()
    what = (
        f'{args.train} training, {args.val} validation and {args.unlabelled} unlabeled images of '
        f'{args.size}x{args.size} pixels, seed {args.seed}'
    )
    with plain_errors():
        written = write_digits_on_photos(**vars(args))
        print(f'{args.out_dir}: ' + (f'wrote {what}' if written else f'already there, nothing to do: {what}'))
