"""One training as tools/train.py runs it, for every tool that trains."""

import argparse
import os
import sys
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.registry import RUNNERS
from mmengine.runner import Runner

from ..distill.build import read_checkpoint
from ..distill.phases import is_stagewise
from ..distill.schedule.data_checks import DataChecks, find_data_error
from ..errors import ConfigError, naming
from ..utils.coco_list import keeping_lists
from ..utils.work_dir import checkpoint_to_resume, claim, release
from . import is_first_rank, start_processes
from .progress import Progress, quiet_console
from .run_config import check_files
from .trouble import await_word_of_worker

WANDB = ('online', 'offline')


def add_watch_arguments(parser: argparse.ArgumentParser) -> None:
    """The options that say where curves are drawn, beside the files that every run writes."""
    parser.add_argument('--tensorboard', action='store_true', help='also write the curves for TensorBoard')
    wandb = 'also send the curves to Weights & Biases; offline: write them into the work dir, for `wandb sync`'
    parser.add_argument('--wandb', nargs='?', const='online', choices=WANDB, help=wandb)


def watch(cfg: Config, tensorboard: bool = False, wandb: str | None = None) -> None:
    """Add a backend of MMEngine's visualizer for each place in which the curves of a run are wanted.

    Args:
        cfg: Of the run, with its ``work_dir``; changed in place.
        tensorboard: Write event files beside ``scalars.json``.
        wandb: ``'online'``, ``'offline'``, or None for not at all. A run has the name of its work dir, in the project ``mmsskd``.

    Raises:
        ConfigError: The package is not installed.
    """
    wanted: list[dict] = []
    if tensorboard:
        _need('tensorboard', '--tensorboard')
        wanted.append(dict(type='TensorboardVisBackend'))
    if wandb:
        _need('wandb', '--wandb', ', or use --tensorboard')
        init = dict(project='mmsskd', name=Path(cfg.work_dir).name, mode=wandb)
        wanted.append(dict(type='WandbVisBackend', init_kwargs=init))
    if wanted:
        visualizer = dict(cfg.get('visualizer') or dict(type='Visualizer'))
        there = visualizer.get('vis_backends') or [dict(type='LocalVisBackend')]
        kinds = [backend['type'] for backend in there]
        visualizer['vis_backends'] = [*there, *(each for each in wanted if each['type'] not in kinds)]
        cfg.visualizer = visualizer


def _need(package: str, option: str, otherwise: str = '') -> None:
    if find_spec(package) is None:
        raise ConfigError(
            f'{option} needs the package {package}, which is not installed: pip install {package}{otherwise}'
        )


class FirstStep(Hook):
    """Note that training runs."""

    def __init__(self, progress):
        self.progress = progress

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.progress.training = True


def _say(text: str) -> None:
    """Print a line once, whatever the number of processes."""
    if is_first_rank():
        print(text, file=sys.stderr)


def prepare(cfg: Config, amp: bool = False, auto_scale_lr: bool = False, resume: str | None = None) -> None:
    """Turn the options of a training into what they mean in its config, in place.

    Args:
        cfg: Of the run, as :func:`mmsskd.cli.read_config` gives it.
        amp: Mixed precision.
        auto_scale_lr: Scale learning rates with the batch size.
        resume: A checkpoint, ``'auto'`` for the latest in the work dir, None to start anew. Of a run that died before its first
            checkpoint there is none: it starts from the beginning.

    Raises:
        ConfigError: A file, or what an option needs, is not there.
    """
    check_files(cfg)
    if amp:
        cfg.optim_wrapper = dict(cfg.get('optim_wrapper') or {}, type='AmpOptimWrapper', loss_scale='dynamic')
    if 'AmpOptimWrapper' in str((cfg.get('optim_wrapper') or {}).get('type')) and not torch.cuda.is_available():
        raise ConfigError('mixed precision needs a GPU, none is available here; remove --amp (or AmpOptimWrapper)')
    if auto_scale_lr:
        if not (cfg.get('auto_scale_lr') or {}).get('base_batch_size'):
            raise ConfigError('--auto-scale-lr needs auto_scale_lr=dict(base_batch_size=...), which the config lacks')
        cfg.auto_scale_lr.enable = True
    if resume:
        path = checkpoint_to_resume(cfg.work_dir, None if resume == 'auto' else resume, _say)
        if path is None and os.path.isdir(cfg.work_dir) and os.listdir(cfg.work_dir):
            _say(f'{cfg.work_dir} holds no checkpoint yet: the run starts from the beginning')
            resume = None
    if resume:
        if path is None or ('://' not in path and not os.path.isfile(path)):
            where = f'{cfg.work_dir!r} holds no checkpoint' if resume == 'auto' else f'there is no file {path!r}'
            raise ConfigError(f'nothing to resume: {where}; remove --resume to start anew')
        read_checkpoint(path, '--resume')
        cfg.resume, cfg.load_from = True, path
    elif cfg.get('load_from'):
        read_checkpoint(cfg.load_from, 'load_from')


def train(cfg: Config, progress: SimpleNamespace, console: Progress | None = None) -> Runner:
    """Run a prepared config to its end.

    Args:
        cfg: See :func:`prepare`.
        progress: What :func:`mmsskd.cli.plain_errors` yields.
        console: What shows where the run is; None: the usual.

    Returns:
        The Runner, after training.

    Raises:
        ConfigError: Whatever of config and data cannot work.
    """
    if is_first_rank():
        claim(cfg.work_dir, resuming=bool(cfg.get('resume')))
    start_processes(cfg)
    with naming(cfg):
        try:
            with quiet_console():
                runner = RUNNERS.build(cfg) if 'runner_type' in cfg else Runner.from_cfg(cfg)
            runner.register_hook(FirstStep(progress))
            runner.register_hook(console or Progress())
            if not is_stagewise(cfg):  # else the schedule's hook looks at the data of each phase
                runner.register_hook(DataChecks())
            with keeping_lists():
                runner.train()
        except ConfigError:
            raise
        except Exception as error:
            await_word_of_worker(error)
            problem = None if progress.training else find_data_error(cfg, error)
            if problem is None:
                raise
            raise ConfigError(problem) from error
        finally:
            release(cfg.work_dir)
    return runner
