#!/usr/bin/env python
"""Write the embedding of a face model as ONNX, checked against torch with onnxruntime before the file is written.

Input `input`: (N, 3, height, width) float32, N free: aligned crops of the size that the config says, normalized as the model's
data_preprocessor says (both are printed). With 112x112, RGB and (x - 127.5) / 127.5 that is what InsightFace's own ONNX models and
its ArcFaceONNX expect. Output `embedding`: (N, D) float32, not normalized: two faces are compared by the cosine between theirs.

Weights released by InsightFace have no classifier: add --cfg-options model.head=None."""

from _model import image_size, read_recognizer

import mmsskd  # noqa: F401  before configs are read, so that `mmsskd::` resolves in them
from mmsskd.cli import add_common_arguments, plain_errors, read_config
from mmsskd.face.export import export_onnx, normalization
from mmsskd.utils.arguments import ToolParser


def main():
    parser = ToolParser(
        __doc__, 'python tools/face/export_onnx.py work_dirs/faces/student.py work_dirs/faces/student.pth student.onnx'
    )
    parser.add_argument(
        'config', help='config of a face model, such as an exported student.py, or of a stage-by-stage run'
    )
    parser.add_argument('checkpoint', help='checkpoint of the run, or the exported student.pth')
    parser.add_argument('out', metavar='OUT.onnx', help='file to write')
    parser.add_argument(
        '--size',
        type=int,
        nargs='+',
        metavar='N',
        help='height and width of the crops, or one number for both; default: as in the config',
    )
    parser.number('--opset', 'version of the ONNX operators', 18)
    add_common_arguments(parser)
    args = parser.parse_args()
    cfg = read_config(args, whole=False)
    size = args.size or image_size(cfg)
    model = read_recognizer(cfg, args.checkpoint)
    difference = export_onnx(model, args.out, size[0] if len(size) == 1 else size, args.opset)
    print(
        f'wrote {args.out}: largest difference from torch {difference:.1e} (relative), images of {size[0]}x{size[-1]}, '
        f'{normalization(model)}'
    )


if __name__ == '__main__':
    with plain_errors():
        main()
