"""Checks of a plan, before anything runs."""

import difflib
from collections.abc import Mapping, Sequence

from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from torch import nn

from ..cli.run_config import RUNNER, check_run
from ..distill.phases import is_schedule_hook, is_stagewise, phases_of
from ..distill.schedule.runner_state import check_optimizer
from ..errors import ConfigError, candidates, describe
from .schedule import stage_names

LONGEST_NAME = 100  # file systems take 255 bytes


def check_names(names: Sequence[str], folders: Sequence[str], reserved: str) -> None:
    """Refuse names of arms that cannot be told apart, or that make no folder.

    Raises:
        ConfigError: With the name.
    """
    lower = [folder.lower() for folder in folders]
    for name, folder in zip(names, lower):
        if not folder:
            raise ConfigError(f'arms: the name {name!r} has no letter or digit, which its folder is named by')
        if len(folder.encode()) > LONGEST_NAME:
            raise ConfigError(f'arms: the name {name!r} is longer than {LONGEST_NAME} bytes; shorten it')
        if name == reserved:
            raise ConfigError(f'arms: {name!r} is the row of the teacher; name the arm otherwise')
        if lower.count(folder) > 1:
            raise ConfigError(
                f'arms: the name {name!r} differs from another only in punctuation or case; name them apart'
            )


def check_options(cfg: Mapping, options: Mapping) -> None:
    """Refuse an option whose path is a slip of one that the config has; MMEngine would add it, and nothing would look at it.

    Args:
        cfg: The config that is to be changed.
        options: Changes of it, as ``--cfg-options``.

    Raises:
        ConfigError: With what is there.
    """
    for path in options:
        node, seen, parts = cfg, [], path.split('.')
        for part in parts[:-1] or parts:
            if not isinstance(node, Mapping) or 'cfg_path' in node or part in node:
                node = node.get(part) if isinstance(node, Mapping) else None
                seen.append(part)
                continue
            if not seen and part in RUNNER:
                break
            known = [str(key) for key in node] + (RUNNER if not seen else [])
            near = difflib.get_close_matches(part, known, 1, 0.8)
            if near or not seen:
                where = '.'.join([*seen, part])
                raise ConfigError(f'options: {path!r}, but the config has no {where!r}; {candidates(part, known)}')
            break


def check_config(cfg: Config) -> None:
    """Refuse fields of our own, schedules and optimizers that could not begin.

    Raises:
        ConfigError: With the key.
    """
    check_run(cfg)
    recipes = [('optim_wrapper', cfg.get('optim_wrapper'))]
    if is_stagewise(cfg):
        phases = phases_of(cfg, stage_names(cfg))
        recipes = [(f'phase {i} ({phase.name})', phase.optim_wrapper) for i, phase in enumerate(phases, 1)]
    elif any(is_schedule_hook(hook) for hook in (cfg.get('default_hooks') or {}).values()):
        raise ConfigError('the config has a StageScheduleHook, but its model is no mmsskd.StagewiseDistiller')
    for where, wrapper in recipes:
        if wrapper:
            check_optimizer(wrapper, where, cfg.get('default_scope'))
        if wrapper and not wrapper.get('constructor'):  # some of those know one kind of network only
            wrapper = Config(dict(wrapper)).to_dict()
            wrapper.pop('paramwise_cfg', None)
            try:
                build_optim_wrapper(nn.Linear(1, 1), wrapper)
            except Exception as error:
                raise ConfigError(f'{where}: {describe(error)}') from error


def check_splits(cfg: Config) -> None:
    """Refuse to choose settings on what the students are measured on.

    Raises:
        ConfigError: Validation and test have the same images.
    """
    sets = [(cfg.get(f'{split}_dataloader') or {}).get('dataset') for split in ('val', 'test')]
    if sets[0] is not None and sets[0] == sets[1]:
        raise ConfigError(
            'tries are chosen on val_dataloader, which has the images of test_dataloader; name another split in one of '
            'them (options for all arms: the key options of the file), or remove tries'
        )
