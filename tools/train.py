#!/usr/bin/env python
"""Train a config: stage by stage, or any other of MMEngine. The arguments are those of mmdet's tools/train.py."""

import argparse
import os.path as osp

import torch
from mmengine.hooks import Hook
from mmengine.registry import RUNNERS
from mmengine.runner import Runner, find_latest_checkpoint

import mmsskd  # noqa: F401  before configs are read, so that `mmsskd::` resolves in them
from mmsskd.cli import add_common_arguments, end_processes, plain_errors, read_config, start_processes
from mmsskd.cli.run_config import check_files
from mmsskd.distill.build import read_checkpoint
from mmsskd.distill.export import is_stagewise
from mmsskd.distill.schedule.coco_list import keeping_lists
from mmsskd.distill.schedule.data_checks import DataChecks, find_data_error
from mmsskd.errors import ConfigError, naming


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='config file')
    parser.add_argument('--amp', action='store_true', help='mixed precision (needs a GPU)')
    parser.add_argument('--auto-scale-lr', action='store_true', help='scale learning rates with the batch size')
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        metavar='PATH',
        help='go on from PATH, or from the latest checkpoint of the work dir',
    )
    add_common_arguments(parser)
    return parser.parse_args()


class FirstStep(Hook):
    """Note that training runs."""

    def __init__(self, progress):
        self.progress = progress

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.progress.training = True


def main(progress):
    args = parse_args()
    cfg = read_config(args)
    if not cfg.get('train_dataloader'):
        raise ConfigError(
            f'{args.config} has no train_dataloader, train_cfg and optim_wrapper, so there is nothing to train on'
        )
    check_files(cfg)
    if args.amp:
        cfg.optim_wrapper = dict(cfg.get('optim_wrapper') or {}, type='AmpOptimWrapper', loss_scale='dynamic')
    if 'AmpOptimWrapper' in str((cfg.get('optim_wrapper') or {}).get('type')) and not torch.cuda.is_available():
        raise ConfigError('mixed precision needs a GPU, none is available here; remove --amp (or AmpOptimWrapper)')
    if args.auto_scale_lr:
        if not (cfg.get('auto_scale_lr') or {}).get('base_batch_size'):
            raise ConfigError(
                '--auto-scale-lr needs auto_scale_lr=dict(base_batch_size=...) in the config, which has none'
            )
        cfg.auto_scale_lr.enable = True
    if args.resume:
        path = find_latest_checkpoint(cfg.work_dir) if args.resume == 'auto' else args.resume
        if path is None or ('://' not in path and not osp.isfile(path)):
            where = f'{cfg.work_dir!r} holds no checkpoint' if args.resume == 'auto' else f'there is no file {path!r}'
            raise ConfigError(f'nothing to resume: {where}; remove --resume to start anew')
        read_checkpoint(path, '--resume')
        cfg.resume, cfg.load_from = True, path
    elif cfg.get('load_from'):
        read_checkpoint(cfg.load_from, 'load_from')
    start_processes(cfg)
    with naming(cfg._cfg_dict):
        try:
            runner = RUNNERS.build(cfg) if 'runner_type' in cfg else Runner.from_cfg(cfg)
            runner.register_hook(FirstStep(progress))
            if not is_stagewise(cfg):  # else the schedule's hook looks at the data of each phase
                runner.register_hook(DataChecks())
            with keeping_lists():
                runner.train()
        except ConfigError:
            raise
        except Exception as error:
            problem = None if progress.training else find_data_error(cfg, error)
            if problem is None:
                raise
            raise ConfigError(problem) from error
    end_processes()


if __name__ == '__main__':
    with plain_errors() as progress:
        main(progress)
