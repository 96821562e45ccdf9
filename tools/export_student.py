#!/usr/bin/env python
"""Write the plain student of a checkpoint, student.pth and student.py, into a folder."""

import mmsskd  # noqa: F401  before configs are read, so that `mmsskd::` resolves in them
from mmsskd.cli import add_options_argument, add_trust_argument, plain_errors
from mmsskd.distill.export import export_checkpoint
from mmsskd.utils.arguments import ToolParser
from mmsskd.utils.portable import FORMATS
from mmsskd.utils.trust import trust

if __name__ == '__main__':
    parser = ToolParser(__doc__, 'python tools/export_student.py work_dirs/mine/epoch_12.pth work_dirs/mine/exported')
    parser.add_argument('checkpoint', help='checkpoint of a stage-by-stage run')
    parser.add_argument('out_dir', metavar='out-dir', help='folder for student.pth and student.py')
    add_options_argument(parser, 'the config that the checkpoint holds')
    what = (
        'also write student.onnx or student.pt2 (torch.export), which need no OpenMMLab: normalized images (N, C, H, W) to '
        'logits or embeddings; of a detector one image and its size to boxes, scores and labels'
    )
    parser.add_argument('--formats', nargs='+', choices=FORMATS, default=(), help=what)
    parser.add_argument('--no-nms', action='store_true', help='of a detector: boxes before its last suppression (NMS)')
    add_trust_argument(parser)
    args = parser.parse_args()
    trust(args.trust_checkpoint)
    with plain_errors():
        paths = export_checkpoint(args.checkpoint, args.out_dir, args.cfg_options, args.formats, not args.no_nms)
        for what, path in zip(('weights', 'config', *args.formats), paths):
            print(f'{what + ":":8} {path}')
