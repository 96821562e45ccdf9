#!/usr/bin/env python
"""Write backbone and embedding of a face model as a plain torch state dict with the names of InsightFace's arcface_torch.

The classifier is dropped. arcface_torch's get_model loads the file strictly, and so does a FaceRecognizer with head=None."""

from _model import read_recognizer

import mmsskd  # noqa: F401  before configs are read, so that `mmsskd::` resolves in them
from mmsskd.cli import add_common_arguments, plain_errors, read_config
from mmsskd.face.export import normalization, save_arcface
from mmsskd.utils.arguments import ToolParser


def main():
    parser = ToolParser(
        __doc__,
        'python tools/face/export_backbone.py work_dirs/faces/student.py work_dirs/faces/student.pth backbone.pth',
    )
    parser.add_argument(
        'config', help='config of a face model, such as an exported student.py, or of a stage-by-stage run'
    )
    parser.add_argument('checkpoint', help='checkpoint of the run, or the exported student.pth')
    parser.add_argument('out', metavar='OUT.pth', help='file to write')
    add_common_arguments(parser)
    args = parser.parse_args()
    model = read_recognizer(read_config(args, whole=False), args.checkpoint)
    save_arcface(model, args.out)
    print(f'wrote {args.out}: {type(model.backbone).__name__}, images {normalization(model)}')


if __name__ == '__main__':
    with plain_errors():
        main()
