"""Helpers of the command-line tools: config and options, CPU processes, and errors that say one thing."""

import argparse
import atexit
import os
import signal
import sys
import warnings
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import torch
from mmengine.config import Config, DictAction

from ..distill.schedule.resume import asked
from ..errors import ConfigError, NonFiniteLossError, candidates, describe, explaining
from ..utils.quiet import import_quietly
from ..utils.trust import trust
from .loaders import complete_loaders
from .run_config import LAUNCHED, check_run
from .trouble import of_worker, trouble_of

TIMEOUT = 600  # seconds that processes of a run wait for each other, where the config does not say


@contextmanager
def plain_errors(again: str = 'the same command with --resume'):
    """Turn a mistake into one message and exit code 1.

    Args:
        again: What goes on with a training that has ended early.

    Yields an object whose ``training`` the tool sets to True once training runs: from then on an error that is neither one of ours
    nor trouble of the machine keeps its traceback, as it may be a defect in somebody's code. ``MMSSKD_TRACEBACK=1`` keeps all.
    """
    progress = SimpleNamespace(training=False)
    if hasattr(sys.stdout, 'reconfigure'):  # the name of a folder may not be text, and is a class
        sys.stdout.reconfigure(errors='backslashreplace')
    try:
        yield progress
    except KeyboardInterrupt:
        way = f'; {again} goes on from the latest checkpoint' if progress.training else ''
        print(f'interrupted{way}', file=sys.stderr)
        sys.exit(130)
    except Exception as error:
        # once a worker of the data loader has ended, torch raises at this signal, wherever the process is by then: here, too
        signal.signal(signal.SIGCHLD, lambda *_: None)
        if os.environ.get('MMSSKD_TRACEBACK'):
            raise
        number = asked()
        if progress.training and number is not None:  # the first rank has saved and ended
            sys.exit(128 + number)
        if progress.training and not _ours(error):
            trouble = trouble_of(error)
            if trouble is None:
                raise
            print(f'error: {trouble}. {again.capitalize()} goes on from the last checkpoint.', file=sys.stderr)
        else:
            print(f'error: {explain(error)}', file=sys.stderr)
        sys.exit(1)


def _ours(error: Exception) -> bool:
    return isinstance(error, (ConfigError, NonFiniteLossError))


def explain(error: Exception, hint: bool = True) -> str:
    """The message of an exception; where others raised it with its type, and with near names where one was not registered.

    Args:
        error: What was raised.
        hint: Say how to see its traceback.
    """
    if _ours(error):
        return of_worker(str(error))
    message = describe(error)
    unknown = hint and message.startswith(type(error).__name__)
    return message + '\n  (MMSSKD_TRACEBACK=1 shows where)' * unknown


def add_common_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments that every tool of OpenMMLab has."""
    parser.add_argument('--work-dir', metavar='DIR', help='folder of the run; default: work_dirs/<name of the config>')
    add_options_argument(parser, 'the config')
    add_trust_argument(parser)
    launchers, what = ['none', *LAUNCHED], 'who starts the processes; default: %(default)s'
    parser.add_argument('--launcher', choices=launchers, default='none', help=what)
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0, help=argparse.SUPPRESS)


def add_options_argument(parser: argparse.ArgumentParser, of: str) -> None:
    """The argument that changes keys of a config."""
    what = f'change keys of {of}: a.b.c=value, key="[a,b]"'
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, metavar='KEY=VALUE', help=what)


def add_trust_argument(parser: argparse.ArgumentParser) -> None:
    """The argument of every tool that loads a checkpoint; see :mod:`mmsskd.utils.trust`."""
    parser.add_argument(
        '--trust-checkpoint',
        action='store_true',
        help='also load checkpoints that hold code, and run it: only files whose author you trust',
    )


def read_config(args: argparse.Namespace, whole: bool = True) -> Config:
    """The config file of ``args.config`` with the options of the command line; ``pkg::path`` works too.

    Args:
        args: With those of :func:`add_common_arguments`.
        whole: Whether the tool builds a Runner from it, see :func:`check_run`.

    Raises:
        ConfigError: The file does not exist or cannot be read, or a part of it is wrong, see :func:`check_run`.
    """
    path = Path(args.config)
    if not path.is_file():
        near = [file.name for file in path.parent.glob('*.py')] if path.parent.is_dir() else []
        raise ConfigError(f'no config file {args.config!r} in {Path.cwd()}; {candidates(path.name, sorted(near))}')
    with explaining(f'cannot read the config {args.config!r}'):
        cfg = Config.fromfile(args.config)
        cfg.launcher = args.launcher
        if args.cfg_options:
            cfg.merge_from_dict(args.cfg_options)
    if not isinstance(cfg.get('model'), dict):
        raise ConfigError(f'{args.config}: a config needs a `model`, found the keys {sorted(cfg.keys())}')
    if cfg.get('default_scope') in ('mmpretrain', 'mmdet'):
        import_quietly(f'{cfg.default_scope}.models', f'{cfg.default_scope}.datasets')
    check_run(cfg, whole)
    complete_loaders(cfg)
    trust(args.trust_checkpoint or cfg.get('trust_checkpoint'))
    if args.work_dir is not None:
        cfg.work_dir = args.work_dir
    elif cfg.get('work_dir') is None:
        cfg.work_dir = os.path.join('work_dirs', path.stem)
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    if cfg.get('randomness', {}).get('deterministic'):  # without this torch refuses cuBLAS where kernels must be so
        os.environ.setdefault('CUBLAS_WORKSPACE_CONFIG', ':4096:8')
    return cfg


def is_first_rank() -> bool:
    """Whether this process is the first one of a run, before the processes know each other; by what their launcher says."""
    ranks = [os.environ.get(name) for name in LAUNCHED.values()]
    return next((rank for rank in ranks if rank is not None), '0') == '0'


def start_processes(cfg: Config) -> None:
    """Start the processes of a distributed run with gloo where NCCL cannot: without a GPU, or with more processes than GPUs.

    MMEngine itself would ask for a device of its own for each, and NCCL refuses a GPU that two share. A process that does not
    answer within ``env_cfg.dist_cfg.timeout`` seconds, 600 by default, ends the others.

    Raises:
        ConfigError: There is no launcher such as ``cfg.launcher`` says.
    """
    if cfg.launcher != 'none':
        if LAUNCHED[cfg.launcher] not in os.environ:
            raise ConfigError(
                f'launcher={cfg.launcher!r}, but {LAUNCHED[cfg.launcher]} is not set: nobody has started processes; take '
                'tools/dist_train.sh or tools/slurm_train.sh, or leave --launcher out for one process'
            )
        limit = ((cfg.get('env_cfg') or {}).get('dist_cfg') or {}).get('timeout', TIMEOUT)
        cfg.merge_from_dict({'env_cfg.dist_cfg.timeout': limit})
    gpus, local = torch.cuda.device_count(), int(os.environ.get('LOCAL_WORLD_SIZE', 1))
    if cfg.launcher != 'pytorch' or gpus >= local:
        return
    if gpus:
        torch.cuda.set_device(int(os.environ['LOCAL_RANK']) % gpus)
        if os.environ['LOCAL_RANK'] == '0':
            warnings.warn(f'{local} processes share {gpus} GPU: they talk through gloo, which is slow', stacklevel=2)
    torch.distributed.init_process_group('gloo', timeout=timedelta(seconds=limit))
    wrapper = dict(type='MMDistributedDataParallel', device_ids=None, broadcast_buffers=False)
    cfg.model_wrapper_cfg = {**wrapper, **(cfg.get('model_wrapper_cfg') or {})}


def end_processes() -> None:
    """Leave the process group, and with gloo the process: a thread of gloo that still holds a tensor asks for the interpreter to
    let it go, and where the interpreter is shutting down by then the process aborts, after all its work is done and written.
    """
    if not torch.distributed.is_initialized():
        return
    gloo = torch.distributed.get_backend() == 'gloo'
    torch.distributed.destroy_process_group()
    if gloo:
        atexit._run_exitfuncs()  # workers of data loaders and loggers end here
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)
