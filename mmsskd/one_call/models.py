"""From the name of a model to its config: a path, ``package::path``, a name of mmpretrain, mmdet or mmsskd, or ``timm:name``."""

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import mmengine
from mmengine.config import Config
from mmengine.config.utils import MODULE2PACKAGE
from mmengine.utils import get_installed_path, is_installed

from ..distill.build import check_config_path
from ..distill.phases import is_stagewise
from ..distill.teacher import LIBRARIES
from ..errors import ConfigError, candidates, explaining
from ..registry import type_name

PACKAGES = {'classification': ('mmpretrain', 'mmsskd'), 'detection': ('mmdet', 'mmsskd')}
SCOPES = {'classification': ('mmpretrain', 'mmsskd'), 'detection': ('mmdet',)}


@dataclass
class Model:
    """A model that was named.

    Attributes:
        name: As the user gave it.
        path: Of its config, as ``cfg_path`` of a distiller takes it.
        cfg: The config.
        zoo: URL of its weights in the model zoo, if any.
    """

    name: str
    path: str
    cfg: Config
    zoo: str | None = None

    @property
    def foreign(self) -> bool:
        """Whether it is a network of another library, which has features only."""
        return type_name(self.cfg.model) == 'ExternalTeacher'


def find_model(name: str, task: str, key: str, small: bool = False) -> Model:
    """Find a model by the name that a user gives.

    Args:
        name: The path of a config; ``mmpretrain::resnet/resnet34_8xb32_in1k.py``; the name of a config or its beginning,
            such as ``resnet34``; of a teacher also ``timm:NAME`` and the like, see :class:`~mmsskd.distill.ExternalTeacher`.
        task: ``'classification'`` or ``'detection'``.
        key: ``'teacher'`` or ``'student'``, for messages.
        small: Whether images are of CIFAR's size: of several configs of one name that for CIFAR is taken.

    Raises:
        ConfigError: There is none; the message has near names. Or it is of another task.
    """
    if not isinstance(name, str) or not name:
        raise ConfigError(f'{key} must be the name of a model or the path of a config, found {name!r}')
    path = name
    if '::' not in name and name.partition(':')[0] in LIBRARIES:
        if key == 'student':
            raise ConfigError(f'student: {name!r} can be a teacher only; name one of mmpretrain or mmdet, or a config')
        model = dict(type='mmsskd.ExternalTeacher', build=name, image_channels='bgr')  # as the readers here give it
        return Model(name, name, Config(dict(model=model)))
    if '::' in name or name.endswith('.py') or '/' in name:
        check_config_path(dict(cfg_path=path), key)
    else:
        path = _by_name(name, task, key, small)
    with explaining(f'{key}: cannot read the config {path!r}'):
        cfg = Config.fromfile(_file(path))
    if not isinstance(cfg.get('model'), dict):
        raise ConfigError(f'{key}: the config {path!r} has no `model`')
    if is_stagewise(cfg):
        raise ConfigError(
            f'{key}: {path!r} is the config of a stage-by-stage run; name a plain one, or run tools/train.py {name}'
        )
    scope = cfg.model.get('_scope_') or cfg.get('default_scope') or str(cfg.model.get('type')).partition('.')[0]
    if scope in ('mmpretrain', 'mmdet') and scope not in SCOPES[task]:
        raise ConfigError(f'{key}: {path!r} is a model of {scope}, but the data is for {task}')
    return Model(name, path, cfg, _zoo().get(path))


def _folder(package: str) -> Path:
    return Path(get_installed_path(MODULE2PACKAGE[package])) / '.mim' / 'configs'


def _file(path: str) -> str:
    package, _, relative = path.rpartition('::')
    return str(_folder(package) / relative) if package else path


@cache
def _configs(package: str) -> list[str]:
    """Paths of the configs of a package, from its folder of configs; of ours those of plain models alone."""
    if not is_installed(MODULE2PACKAGE[package]):
        return []
    folder = _folder(package)
    files = sorted((folder / 'plain' if package == 'mmsskd' else folder).rglob('*.py'))
    return [path for file in files if not (path := file.relative_to(folder).as_posix()).startswith('_base_')]


def _by_name(name: str, task: str, key: str, small: bool) -> str:
    known = {f'{package}::{path}': Path(path).stem for package in PACKAGES[task] for path in _configs(package)}
    known = {each: stem for each, stem in known.items() if not each.startswith('mmsskd::') or _is_for(task, stem)}
    wanted = _plain(name)
    fit = [each for each, stem in known.items() if f'{_plain(stem)}_'.startswith(f'{wanted}_')]
    if not fit:
        parts = 1 if task == 'classification' else 2  # enough to tell models apart
        near = sorted({'_'.join(stem.split('_')[:parts]) for stem in known.values()} - {''})
        raise ConfigError(
            f'{key}: no model {name!r} for {task}; {candidates(name, near)}. The path of a config works too, and '
            "'mmpretrain::...', 'mmdet::...', 'mmsskd::...'; 'timm:...' is a teacher"
        )
    exact = [each for each in fit if _plain(known[each]) == wanted]
    preferred = ('cifar100', 'cifar10', 'in1k') if small else ('in1k', 'in21k', 'cifar')

    def order(each):  # of several, the plainest: the shortest name
        stem = known[each]
        kind = next((i for i, mark in enumerate(preferred) if mark in stem), len(preferred))
        return (kind, len(stem), stem) if task == 'classification' else (len(stem), stem)

    return min(exact or fit, key=order)


def _is_for(task: str, stem: str) -> bool:
    """Whether a config of ours is for a task; those for faces are for none of the two."""
    return not stem.startswith('face_') and stem.startswith('digits_on_photos') == (task == 'detection')


def _plain(name: str) -> str:
    return name.lower().replace('-', '_')


@cache
def _zoo() -> dict[str, str]:
    """The weights of the model zoos by ``package::path`` of their configs."""
    urls = {}
    for package in ('mmpretrain', 'mmdet'):
        if not is_installed(MODULE2PACKAGE[package]):
            continue
        index = _folder(package).parent / 'model-index.yml'
        for name in mmengine.load(str(index))['Import']:
            file = index.parent / name
            text = file.read_text() if file.is_file() else ''
            # a line each, read as such: the parser of YAML takes seconds for the hundred files
            for block in re.split(r'^\s*- Name:', text, flags=re.M)[1:]:
                config, weights = (re.search(rf'^\s*{word}:\s*(\S+)', block, re.M) for word in ('Config', 'Weights'))
                if config and weights and weights[1].startswith('http'):
                    urls[f'{package}::{config[1].removeprefix("configs/")}'] = weights[1]
    return urls
