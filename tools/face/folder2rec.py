#!/usr/bin/env python
"""Write a folder of faces, one folder for each person, as InsightFace's RecordIO: OUT_PREFIX.rec, OUT_PREFIX.idx and property.

Faces should be aligned already; images of another size are scaled by their longer side, with black borders."""

from mmsskd.cli import plain_errors
from mmsskd.face.data.record_folders import folder_to_records
from mmsskd.utils.arguments import ToolParser

if __name__ == '__main__':
    parser = ToolParser(__doc__, 'python tools/face/folder2rec.py data/people data/mine/train')
    parser.add_argument('folder', metavar='FOLDER', help='one folder for each person, images at any depth below')
    parser.add_argument(
        'prefix', metavar='OUT_PREFIX', help='path of the files without their endings, such as data/mine/train'
    )
    parser.number('--size', 'height and width, pixels', 112)
    parser.number('--quality', 'of the JPEG files, 1 to 100', 95)
    args = parser.parse_args()
    with plain_errors():
        people, images = folder_to_records(**vars(args))
        print(f'wrote {args.prefix}.rec, {args.prefix}.idx and property: {images} images of {people} people')
