"""Pins: what the result of a run depends on, kept in its checkpoints and compared on resume.

What has changed is refused where the run would be another one: the networks, the teacher's weights, the losses, the batch over all
ranks. Another number of ranks with the same batch, and other data, are said once; other data are refused where they change the
length of a phase. Of phases that were not reached, batch and data may change, as the phases themselves may. With other validation
images the scores so far mean nothing, so the teacher is measured anew and the best checkpoint is chosen from now on.
"""

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from mmengine.dist import get_world_size
from mmengine.runner import Runner
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ...errors import ConfigError
from ..build import resolve_model_cfg, without_init
from ..distiller import StagewiseDistiller
from ..export import plain_config
from ..phases import Phase
from .data_checks import plain_datasets

ELSEWHERE = (
    'student',
    'teacher',
    'teacher_checkpoint',
    'student_checkpoint',
    'data_preprocessor',
    'input_shape',
    'type',
)
MOST_HASHED = 64 * 2**20  # bytes of a list of images; of a longer one the size counts
MOST_LOOKED_AT = 256  # images of a set without a list
FEW = 0.01  # by which the length of a phase may change with its data: an image or two that cannot be read


def pins_of(runner: Runner, distiller: StagewiseDistiller, loaders: Sequence[DataLoader]) -> dict:
    """Pin a run that is set up, with a loader for each phase, as plain data: dicts, lists, text and numbers."""
    model, ranks = runner.cfg.model, get_world_size()
    data = {id(loader): data_of(loader.dataset) for loader in loaders}
    return dict(
        student_config=as_data(plain_config(runner.cfg).to_dict()),
        teacher=as_data(without_init(resolve_model_cfg(model.teacher, 'teacher'))),
        teacher_weights=hash_of(distiller.teacher.state_dict()),
        model={key: as_data(value) for key, value in model.items() if key not in ELSEWHERE and value is not None},
        ranks=ranks,
        phases=[dict(batch=batch_of(loader) * ranks, batches=len(loader), data=data[id(loader)]) for loader in loaders],
        validation=None if runner.val_loop is None else data_of(runner.val_loop.dataloader.dataset),
    )


def check_pins(checkpoint: dict, now: dict, phases: Sequence[Phase], reached: int, by_epoch: bool, logger) -> None:
    """Compare the pins of a checkpoint with those of the run that resumes it; see the top of this module.

    Args:
        checkpoint: Its scores are dropped where they mean nothing any more.
        now: The pins of the run.
        phases: The schedule now.
        reached: How many phases the checkpoint has been in.
        by_epoch: Whether the run counts epochs, whose length follows from the data.
        logger: Of the run.

    Raises:
        ConfigError: The message names what has changed, and the ways out.
    """
    was = checkpoint.get('pins')
    if was is None:
        logger.warning(
            'the checkpoint says nothing of teacher, losses, batch and data of its run: they are not compared'
        )
        return
    anew = 'put it back, or start anew in another work_dir'
    for name, old, new in (
        ('model.student', was['student_config']['model'], now['student_config']['model']),
        ('model.teacher', was['teacher'], now['teacher']),
        ('model', was['model'], now['model']),
    ):
        changed = [f'{key} is {b!r}, was {a!r}' for key, a, b in _differences(old, new, name)]
        if changed:
            raise ConfigError(f'the run that wrote the checkpoint was another one: {"; ".join(changed[:4])}; {anew}')
    if was['teacher_weights'] != now['teacher_weights']:
        raise ConfigError(
            f'model.teacher_checkpoint holds other weights (sha256 {now["teacher_weights"][:12]}) than those that the student has '
            f'followed so far (sha256 {was["teacher_weights"][:12]}); {anew}, there with model.student_checkpoint to begin with '
            'the weights of this one'
        )
    if was['ranks'] != now['ranks']:
        logger.warning(
            f'{now["ranks"]} ranks, the checkpoint was written by {was["ranks"]}: the result will not be that of a run without a '
            'break to the bit'
        )
    for number, (phase, old, new) in enumerate(zip(phases[:reached], was['phases'], now['phases']), 1):
        _check_phase(f'phase {number} ({phase.name})', old, new, now['ranks'], by_epoch, logger)
    if was['validation'] is not None and was['validation'] != now['validation']:
        logger.warning(
            f'val_dataloader: {_other_data(was["validation"], now["validation"])}; its scores so far are dropped'
        )
        values = checkpoint['message_hub'].get('runtime_info', {})
        for key in [key for key in values if key == 'teacher_metrics' or key.startswith('best_')]:
            del values[key]
            checkpoint['message_hub'].get('resumed_keys', {}).pop(key, None)


def _check_phase(where: str, old: dict, new: dict, ranks: int, by_epoch: bool, logger) -> None:
    """Refuse another batch, and data that change the length of a phase; say other data."""
    if old['batch'] != new['batch']:
        share = f'; on {ranks} ranks, batch_size={old["batch"] / ranks:g} gives that' if ranks > 1 else ''
        raise ConfigError(
            f'{where}: a step takes {new["batch"]} images, in the run that wrote the checkpoint it took {old["batch"]}{share}. The '
            'learning rates were laid out for those: set batch_size as it was, or start anew in another work_dir'
        )
    if old['data'] != new['data']:
        told = f'{where}: {_other_data(old["data"], new["data"])}'
        if by_epoch and abs(new['batches'] - old['batches']) > FEW * old['batches']:
            raise ConfigError(
                f'{told}. An epoch has {new["batches"]} batches, had {old["batches"]}, and the learning rates were laid out for '
                'those: put the data back, or start anew in another work_dir'
            )
        logger.warning(f'{told}; the run goes on with them, and its result is that of neither')


def _other_data(old: list | None, new: list | None) -> str:
    changed = [f'{key} is {b!r}, was {a!r}' for key, a, b in _differences(old, new, 'dataset')]
    return f'the data are not those of the run that wrote the checkpoint: {"; ".join(changed[:3])}'


# -- what is pinned ----------------------------------------------------------------------------------------------------


def as_data(value):
    """A config as plain data; types by their names, as a dumped config has them."""
    if isinstance(value, Mapping):
        return {str(key): as_data(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [as_data(item) for item in value] if isinstance(value, list) else tuple(map(as_data, value))
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    return f'{value.__module__}.{value.__qualname__}' if isinstance(value, (type, Callable)) else repr(value)


def hash_of(state: Mapping[str, Tensor]) -> str:
    """The SHA-256 of a state dict, whatever the device and order of its tensors."""
    digest = hashlib.sha256()
    for name in sorted(name for name in state if torch.is_tensor(state[name])):
        value = state[name].detach().cpu().contiguous()
        digest.update(f'{name} {value.dtype} {tuple(value.shape)}'.encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def batch_of(loader: DataLoader) -> int:
    """Images that one rank gets in a step; 0 where nobody says."""
    return loader.batch_size or getattr(loader.batch_sampler, 'batch_size', 0)


def data_of(outer: Dataset) -> list[dict]:
    """Marks that tell the data sets in ``outer`` from others, wherever they are: a list for each has moved with its images."""
    return [_one_set(dataset) for _, dataset in plain_datasets(outer)]


def _one_set(dataset: Dataset) -> dict:
    count = len(dataset) if hasattr(dataset, '__len__') else -1
    classes = getattr(dataset, 'metainfo', {}).get('classes')
    found = dict(type=type(dataset).__name__, images=count, classes=_short(repr(classes)))
    files = [getattr(dataset, key, None) for key in ('ann_file', 'rec')]
    files = [file for file in files if isinstance(file, str) and os.path.isfile(file)]
    found['lists'] = [_file(file) for file in files]
    if not files:
        found['names'] = _short(repr(_names(dataset, count)))
    return found


def _file(path: str) -> str:
    size = os.path.getsize(path)
    if size > MOST_HASHED:
        return f'{size} bytes'
    return f'{size} bytes, sha256 {hashlib.sha256(Path(path).read_bytes()).hexdigest()[:12]}'


def _names(dataset, count: int) -> list:
    """Names, with their folders, and labels of some of the images of a set that is made of files."""
    if not hasattr(dataset, 'get_data_info') or count < 1 or 'img_path' not in dataset.get_data_info(0):
        return []
    infos = [dataset.get_data_info(i) for i in range(0, count, max(count // MOST_LOOKED_AT, 1))]
    return [('/'.join(str(info['img_path']).split('/')[-2:]), info.get('gt_label')) for info in infos]


def _short(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _differences(old, new, path: str) -> list[tuple[str, object, object]]:
    """The innermost keys in which two pieces of data differ, with both values; a tuple is as good as a list."""
    if isinstance(old, dict) and isinstance(new, dict):
        keys = list(dict.fromkeys([*old, *new]))
        return [each for key in keys for each in _differences(old.get(key), new.get(key), f'{path}.{key}')]
    if isinstance(old, (list, tuple)) and isinstance(new, (list, tuple)) and len(old) == len(new):
        pairs = enumerate(zip(old, new))
        return [each for i, (a, b) in pairs for each in _differences(a, b, f'{path}[{i}]')]
    return [] if old == new else [(path, old, new)]
