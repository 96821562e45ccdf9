#!/usr/bin/env python
"""Write the plain student (student.pth, student.py) of any checkpoint of a stage-by-stage run into a folder."""

import argparse

from mmengine.config import DictAction

import mmsskd  # noqa: F401  before configs are read, so that `mmsskd::` resolves in them
from mmsskd.cli import add_trust_argument, plain_errors
from mmsskd.distill.export import export_checkpoint
from mmsskd.utils.trust import trust

if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('checkpoint', help='checkpoint of a stage-by-stage run')
    parser.add_argument('out_dir', help='folder for student.pth and student.py')
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        help='change the config that the checkpoint holds: key=value, key="[a,b]", a.b.c=value',
    )
    parser.add_argument(
        '--onnx',
        action='store_true',
        help='write student.onnx too, of a classifier or a face model: normalized images (N, C, H, W) in, logits or embeddings out',
    )
    add_trust_argument(parser)
    args = parser.parse_args()
    trust(args.trust_checkpoint)
    with plain_errors():
        paths = export_checkpoint(args.checkpoint, args.out_dir, args.cfg_options, args.onnx)
        for what, path in zip(('weights:', 'config: ', 'onnx:   '), paths):
            print(what, path)
