#!/usr/bin/env python
"""Write the pairs of an InsightFace .bin file as images and a pairs.txt, so that later runs need no pickle.

No code that the file may hold is run."""

import argparse

from mmsskd.cli import plain_errors
from mmsskd.face.data.face_bin import bin_to_folder

if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('path', metavar='FILE.bin', help='for instance data/faces_emore/lfw.bin')
    parser.add_argument('out_dir', metavar='OUT_DIR', help='folder to write; it must not hold anything')
    args = parser.parse_args()
    with plain_errors():
        pairs, genuine = bin_to_folder(**vars(args))
        print(f'wrote {args.out_dir}: {pairs} pairs, {genuine} of them of one person')
