"""What the command-line tools share: config and options, CPU processes, and errors that say one thing."""

import argparse
import atexit
import inspect
import os
import re
import sys
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import torch
from mmengine import registry
from mmengine.config import Config, DictAction

from ..distill import StageScheduleHook, StagewiseDistiller
from ..distill.distiller import GONE
from ..distill.export import is_stagewise
from ..distill.phases import is_schedule_hook
from ..distill.schedule.runner_state import check_optimizer
from ..errors import ConfigError, NonFiniteLossError, candidates, check_keys

NO_OPS = (
    'detection needs mmcv with compiled ops, which this machine has not. With a C++ compiler: '
    'pip install --no-build-isolation --no-cache-dir --force-reinstall --no-deps onedl-mmcv==2.3.6 (after torch)'
)


@contextmanager
def plain_errors():
    """Turn a mistake into one message and exit code 1.

    Yields an object whose ``training`` the tool sets to True once training runs: from then on an error that is not one of ours
    keeps its traceback, as it may be a defect in somebody's code. ``MMSSKD_TRACEBACK=1`` keeps all tracebacks.
    """
    progress = SimpleNamespace(training=False)
    try:
        yield progress
    except KeyboardInterrupt:
        resume = '; the same command with --resume goes on from the latest checkpoint' if progress.training else ''
        print(f'interrupted{resume}', file=sys.stderr)
        sys.exit(130)
    except Exception as error:
        if os.environ.get('MMSSKD_TRACEBACK') or (progress.training and not _ours(error)):
            raise
        print(f'error: {explain(error)}', file=sys.stderr)
        sys.exit(1)


def _of_worker(message: str) -> str:
    """The message itself where a worker of a data loader raised it: torch puts the worker's traceback before it."""
    found = re.search(r'^Caught \w+Error in DataLoader worker.*\n[\w.]*Error: (.*)', message, re.DOTALL)
    return found[1].strip() if found else message


def _ours(error: Exception) -> bool:
    return isinstance(error, (ConfigError, NonFiniteLossError))


def explain(error: Exception, hint: bool = True) -> str:
    """The message of an exception; where others raised it with its type, and with near names where one was not registered.

    Args:
        error: What was raised.
        hint: Say how to see its traceback.
    """
    if _ours(error):
        return _of_worker(str(error))
    message = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    if isinstance(error, ImportError) and ('mmcv._ext' in message or 'mmcv.ops' in message):
        return NO_OPS
    found = re.search(r'(\S+) is not in the \S+::(.+?) registry', message)
    if found:
        wrong, kind = found.groups()
        known = {
            name
            for root in vars(registry).values()
            if isinstance(root, registry.Registry) and root.name == kind
            for tree in (root, *root.children.values())
            for name in tree.module_dict
        }
        return f'there is no {kind} of type {wrong!r}; {candidates(wrong.rpartition(".")[2], sorted(known))}'
    return f'{type(error).__name__}: {message}' + ('\n  (MMSSKD_TRACEBACK=1 shows where)' if hint else '')


def add_common_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments that every tool of OpenMMLab has."""
    parser.add_argument('--work-dir', help='where logs and checkpoints go; default work_dirs/<name of the config>')
    parser.add_argument(
        '--cfg-options', nargs='+', action=DictAction, help='change the config: key=value, key="[a,b]", a.b.c=value'
    )
    parser.add_argument('--launcher', choices=['none', 'pytorch', 'slurm', 'mpi'], default='none', help='job launcher')
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0, help=argparse.SUPPRESS)


def read_config(args: argparse.Namespace) -> Config:
    """The config file of ``args.config`` with the options of the command line; ``pkg::path`` works too.

    Raises:
        ConfigError: The file does not exist or cannot be read, or our part of it has a field that does not exist.
    """
    path = Path(args.config)
    if not path.is_file():
        near = [file.name for file in path.parent.glob('*.py')] if path.parent.is_dir() else []
        raise ConfigError(f'no config file {args.config!r} in {Path.cwd()}; {candidates(path.name, sorted(near))}')
    try:
        cfg = Config.fromfile(args.config)
        cfg.launcher = args.launcher
        if args.cfg_options:
            cfg.merge_from_dict(args.cfg_options)
    except Exception as error:
        raise ConfigError(f'cannot read the config {args.config!r}: {type(error).__name__}: {error}') from error
    if not isinstance(cfg.get('model'), dict):
        raise ConfigError(f'{args.config}: a config needs a `model`, found the keys {sorted(cfg.keys())}')
    if isinstance(cfg.get('optim_wrapper'), dict):
        check_optimizer(cfg.optim_wrapper, 'optim_wrapper', cfg.get('default_scope'))
    if is_stagewise(cfg):
        check_fields(cfg)
    if args.work_dir is not None:
        cfg.work_dir = args.work_dir
    elif cfg.get('work_dir') is None:
        cfg.work_dir = os.path.join('work_dirs', path.stem)
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    return cfg


def check_fields(cfg: Config) -> None:
    """Refuse fields that distiller and hook do not have, and a config without those that they need.

    Raises:
        ConfigError: With near names.
    """
    _check_fields(cfg.model, StagewiseDistiller, 'model', GONE)
    for name, hook in (cfg.get('default_hooks') or {}).items():
        if is_schedule_hook(hook):
            _check_fields(hook, StageScheduleHook, f'default_hooks.{name}')


def _check_fields(cfg: dict, kind: type, where: str, gone: dict | None = None) -> None:
    """Every key of ``cfg`` must be an argument of ``kind``, and every argument without a default must be there."""
    fields = [
        field
        for field in inspect.signature(kind).parameters.values()
        if field.kind is not inspect.Parameter.VAR_KEYWORD
    ]
    check_keys(cfg, ['type', '_scope_', *(field.name for field in fields)], f'{where} ({kind.__name__})', gone)
    for field in fields:
        if field.default is inspect.Parameter.empty and field.name not in cfg:
            raise ConfigError(f'{where}: {kind.__name__} needs {field.name!r}, which is not there')


def start_processes(cfg: Config) -> None:
    """Without a GPU, start the processes of a distributed run with gloo; MMEngine itself would ask for a device."""
    if cfg.launcher != 'pytorch' or torch.cuda.is_available():
        return
    torch.distributed.init_process_group('gloo')
    wrapper = dict(type='MMDistributedDataParallel', device_ids=None, broadcast_buffers=False)
    cfg.model_wrapper_cfg = {**wrapper, **cfg.get('model_wrapper_cfg', {})}


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
