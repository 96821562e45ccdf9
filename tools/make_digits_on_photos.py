#!/usr/bin/env python
"""Write the detection data set "digits on photos": handwritten digits on crops of two photos, with boxes and masks.

Digits and photos come with scikit-learn, so nothing is downloaded. The folder holds train/ and val/ with COCO annotations in
annotations/, and unlabelled/, images of the same kind without any. The same options give the same bytes.
"""

from mmsskd.cli import plain_errors
from mmsskd.datasets.digits_on_photos import write_digits_on_photos
from mmsskd.utils.arguments import ToolParser

if __name__ == '__main__':
    parser = ToolParser(__doc__, 'python tools/make_digits_on_photos.py data/digits_on_photos --train 80 --val 20')
    parser.add_argument('out_dir', nargs='?', default='data/digits_on_photos', help='folder; default: %(default)s')
    parser.number('--train', 'training images with boxes', 800)
    parser.number('--val', 'validation images with boxes', 200)
    parser.number('--unlabelled', 'images without boxes', 800)
    parser.number('--size', 'height and width, pixels', 160)
    parser.number('--seed', 'other seeds give other images', 0)
    args = parser.parse_args()
    what = (
        f'{args.train} training, {args.val} validation and {args.unlabelled} unlabeled images of '
        f'{args.size}x{args.size} pixels, seed {args.seed}'
    )
    with plain_errors():
        written = write_digits_on_photos(**vars(args))
        print(f'{args.out_dir}: ' + (f'wrote {what}' if written else f'already there, nothing to do: {what}'))
