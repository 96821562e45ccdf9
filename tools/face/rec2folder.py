#!/usr/bin/env python
"""Write the images of InsightFace's RecordIO as files, one folder for each person; their bytes stay as they are."""

import argparse

from mmsskd.cli import plain_errors
from mmsskd.face.data.record_folders import records_to_folder

if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('rec', metavar='REC', help='for instance data/faces_emore/train.rec')
    parser.add_argument('out_dir', metavar='OUT_DIR', help='folder to write; it must not hold anything')
    args = parser.parse_args()
    with plain_errors():
        people, images = records_to_folder(**vars(args))
        print(f'wrote {args.out_dir}: {images} images of {people} people')
