#!/usr/bin/env python
"""Write a folder of faces, one folder for each person, as InsightFace's RecordIO: OUT_PREFIX.rec, OUT_PREFIX.idx and property.

Faces should be aligned already; images of another size are scaled by their longer side, with black borders."""

import argparse

from mmsskd.cli import plain_errors
from mmsskd.face.data.record_folders import folder_to_records

if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('folder', metavar='FOLDER', help='one folder for each person, images at any depth below')
    parser.add_argument('prefix', metavar='OUT_PREFIX', help='for instance data/mine/train')
    parser.add_argument('--size', type=int, default=112, help='height and width in pixels; default %(default)s')
    parser.add_argument('--quality', type=int, default=95, help='of JPEG, 1 to 100; default %(default)s')
    args = parser.parse_args()
    with plain_errors():
        people, images = folder_to_records(**vars(args))
        print(f'wrote {args.prefix}.rec, {args.prefix}.idx and property: {images} images of {people} people')
