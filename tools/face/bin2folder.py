#!/usr/bin/env python
"""Write the pairs of an InsightFace .bin file as images and a pairs.txt, so that later runs need no pickle.

No code that the file may hold is run."""

from mmsskd.cli import plain_errors
from mmsskd.face.data.face_bin import bin_to_folder
from mmsskd.utils.arguments import ToolParser

if __name__ == '__main__':
    parser = ToolParser(__doc__, 'python tools/face/bin2folder.py data/faces_emore/lfw.bin data/lfw')
    parser.add_argument('path', metavar='FILE.bin', help='file of pairs, such as data/faces_emore/lfw.bin')
    parser.add_argument('out_dir', metavar='OUT_DIR', help='folder to write; must be empty or new')
    args = parser.parse_args()
    with plain_errors():
        pairs, genuine = bin_to_folder(**vars(args))
        print(f'wrote {args.out_dir}: {pairs} pairs, {genuine} of them of one person')
