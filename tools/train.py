#!/usr/bin/env python
"""Train a config, stage by stage or any other of MMEngine.

The arguments are those of mmdet's tools/train.py.
"""

import mmsskd  # noqa: F401  before configs are read, so that `mmsskd::` resolves in them
from mmsskd.cli import add_common_arguments, end_processes, plain_errors, read_config
from mmsskd.cli.train import add_watch_arguments, prepare, train, watch
from mmsskd.errors import ConfigError
from mmsskd.utils.arguments import ToolParser


def parse_args():
    options = '--cfg-options model.teacher_checkpoint=TEACHER.pth'
    parser = ToolParser(__doc__, f'python tools/train.py configs/sskd/digits_r14x2_r8.py {options}')
    parser.add_argument('config', help='config file (.py)')
    parser.add_argument('--amp', action='store_true', help='mixed precision (needs a GPU)')
    parser.add_argument('--auto-scale-lr', action='store_true', help='scale learning rates to the batch size')
    resume = 'continue from this checkpoint; without FILE, from the latest in the work dir'
    parser.add_argument('--resume', nargs='?', const='auto', metavar='FILE', help=resume)
    add_watch_arguments(parser)
    add_common_arguments(parser)
    return parser.parse_args()


def main(progress):
    args = parse_args()
    cfg = read_config(args)
    if not cfg.get('train_dataloader'):
        raise ConfigError(f'{args.config} has no train_dataloader, train_cfg and optim_wrapper: nothing to train')
    watch(cfg, args.tensorboard, args.wandb)
    prepare(cfg, args.amp, args.auto_scale_lr, args.resume)
    train(cfg, progress)
    end_processes()


if __name__ == '__main__':
    with plain_errors() as progress:
        main(progress)
