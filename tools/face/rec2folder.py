#!/usr/bin/env python
"""Write the images of InsightFace's RecordIO as files, one folder for each person; their bytes stay as they are."""

from mmsskd.cli import plain_errors
from mmsskd.face.data.record_folders import records_to_folder
from mmsskd.utils.arguments import ToolParser

if __name__ == '__main__':
    parser = ToolParser(__doc__, 'python tools/face/rec2folder.py data/faces_emore/train.rec data/faces')
    parser.add_argument('rec', metavar='FILE.rec', help='records, such as data/faces_emore/train.rec')
    parser.add_argument('out_dir', metavar='OUT_DIR', help='folder to write; must be empty or new')
    args = parser.parse_args()
    with plain_errors():
        people, images = records_to_folder(**vars(args))
        print(f'wrote {args.out_dir}: {images} images of {people} people')
