"""Data checks before training: classes that the head lacks, undefined categories, files that are not there."""

import copy
import os
from collections.abc import Iterable, Sequence

from mmengine.config import Config
from mmengine.dataset import BaseDataset
from mmengine.fileio import load
from mmengine.logging import MMLogger
from mmengine.registry import DATASETS, DefaultScope
from mmengine.runner import Runner
from torch import nn
from torch.utils.data import DataLoader, Dataset

from ...errors import ConfigError, candidates, describe
from ..phases import Phase

MOST_FILES = 200_000  # looked for; of a larger set, every n-th


def check_data(runner: Runner, phases: Sequence[Phase], loaders: Sequence[DataLoader], student: nn.Module) -> None:
    """Check the data set of each phase, and that of validation, against the files on disk, its annotations and the heads.

    Raises:
        ConfigError: Images are missing, a class is not in the annotation file, annotations name a category that the file does not
            define, or a head is made for another number of classes.
    """
    datasets = {
        f'train_dataloader of phase {i} ({phase.name})'
        if phase.train_dataloader
        else 'train_dataloader': loader.dataset
        for i, (phase, loader) in enumerate(zip(phases, loaders), 1)
    }
    if runner._val_dataloader is not None:
        datasets['val_dataloader'] = runner.val_loop.dataloader.dataset
    looked_at = set()
    for key, outer in datasets.items():
        for dataset in _plain_datasets(outer):
            if id(dataset) in looked_at:
                continue
            looked_at.add(id(dataset))
            _check_files(dataset, key)
            _check_categories(dataset, key, runner.logger)
            _check_classes(dataset, student, key, runner.logger)


def other_classes(model: nn.Module, dataset: Dataset) -> str | None:
    """Why ``model`` cannot be measured on ``dataset``: a head is made for another number of classes. None where it can."""
    wrong = next((f'{path} for {count}' for path, count, refused in _unequal(model, dataset) if refused), None)
    return None if wrong is None else f'{wrong} classes, the data set has {_count_classes(dataset)}'


def _plain_datasets(dataset) -> Iterable[Dataset]:
    """The data sets inside wrappers that concatenate, repeat or mix."""
    if hasattr(dataset, 'datasets'):
        for inner in dataset.datasets:
            yield from _plain_datasets(inner)
    elif hasattr(dataset, 'dataset'):
        yield from _plain_datasets(dataset.dataset)
    else:
        yield dataset


def _check_files(dataset, key: str) -> None:
    """Every image on a local disk must be there. Folders are listed once: a look at each file takes minutes on a network disk."""
    if not isinstance(dataset, BaseDataset) or not len(dataset) or not _reads_local_files(dataset):
        return
    if 'img_path' not in BaseDataset.get_data_info(dataset, 0):
        return
    step = -(-len(dataset) // MOST_FILES)
    paths = [BaseDataset.get_data_info(dataset, i).get('img_path') for i in range(0, len(dataset), step)]
    paths = [path for path in paths if isinstance(path, str) and '://' not in path]
    folders = set(map(os.path.dirname, paths))
    there = {folder: _listing(folder) for folder in folders}
    missing = [
        path
        for path in paths
        if there[os.path.dirname(path)] is not None and os.path.basename(path) not in there[os.path.dirname(path)]
    ]
    if missing:
        some = ', '.join(missing[:3]) + (', ...' if len(missing) > 3 else '')
        raise ConfigError(
            f'{key}: {len(missing)} of {len(paths)} images are not there: {some}. Set data_root and data_prefix so that with the '
            f'file names of the annotation file they give paths from {os.getcwd()}.'
        )


def _reads_local_files(dataset) -> bool:
    """Whether images are read by OpenMMLab's own loading transform from a local disk; another may find them elsewhere."""
    first = next(iter(getattr(getattr(dataset, 'pipeline', None), 'transforms', ())), None)
    backend = getattr(first, 'backend_args', None) or {}
    return type(first).__name__ == 'LoadImageFromFile' and backend.get('backend', 'local') == 'local'


def _listing(folder: str) -> set[str] | None:
    """Names in a folder, empty where it is missing, None where it may not be listed."""
    try:
        return set(os.listdir(folder or '.'))
    except (FileNotFoundError, NotADirectoryError):
        return set()
    except OSError:
        return None


def _check_categories(dataset, key: str, logger: MMLogger) -> None:
    """For annotations in COCO's format: mmdet leaves out what it does not know, and numbers the classes by what it finds."""
    if not hasattr(dataset, 'cat_ids') or not hasattr(dataset, 'cat_img_map'):
        return
    classes = list(dataset.metainfo.get('classes') or ())
    unknown = sorted(id_ for id_, images in dataset.cat_img_map.items() if images and id_ not in dataset.cat_ids)
    if len(dataset.cat_ids) == len(classes) and not unknown:
        return
    content = load(dataset.ann_file, backend_args=getattr(dataset, 'backend_args', None))
    defined = {category['id']: category['name'] for category in content['categories']}
    absent = [name for name in classes if name not in defined.values()]
    if absent:
        raise ConfigError(
            f'{key}: {len(absent)} of {len(classes)} classes are not in {dataset.ann_file!r}: {", ".join(map(repr, absent[:5]))}; '
            f'{candidates(absent[0], list(defined.values()))}. Set dataset.metainfo=dict(classes=(...)) to names of the file, and '
            'num_classes in the heads to their number.'
        )
    twice = sorted({name for name in classes if list(defined.values()).count(name) > 1})
    if twice:
        raise ConfigError(
            f'{key}: {dataset.ann_file!r} defines {twice} more than once, so labels would not be those of the classes; give each '
            'category a name of its own, or merge them.'
        )
    undefined = [id_ for id_ in unknown if id_ not in defined]
    if undefined:
        raise ConfigError(
            f'{key}: annotations in {dataset.ann_file!r} have category ids that its `categories` do not define: {undefined[:8]} '
            f'(defined: {sorted(defined)[:8]}{", ..." if len(defined) > 8 else ""}). Mend the annotations, or add the categories.'
        )
    if unknown:
        names = [defined[id_] for id_ in unknown]
        logger.warning(
            f'{key}: {dataset.ann_file!r} also has annotations of {len(names)} classes that the config does not name, left '
            f'out: {", ".join(map(str, names[:8]))}{", ..." if len(names) > 8 else ""}'
        )


def _check_classes(dataset, student: nn.Module, key: str, logger: MMLogger) -> None:
    classes = _classes_of(dataset)
    names = f' ({", ".join(map(str, classes[:5]))}{", ..." if len(classes) > 5 else ""})' if classes else ''
    for path, count, refused in _unequal(student, dataset):
        message = (
            f'{key}: {_count_classes(dataset)} classes{names}, but model.student.{path} is made for {count}. Set its num_classes'
            f'{", or dataset.metainfo=dict(classes=(...))" if classes else ""}.'
        )
        if refused:
            raise ConfigError(message)
        logger.warning(message)


def _unequal(model: nn.Module, dataset) -> list[tuple[str, int, bool]]:
    """Path and number of classes of each head made for another number than the data set has, and whether that cannot work.

    A head must have a place for each class, and in detection no others: COCO's metric stops at a class that it does not know.
    """
    classes, things = _count_classes(dataset), getattr(dataset, 'metainfo', {}).get('thing_classes') or ()
    if not classes or getattr(dataset, 'return_classes', False):  # the latter: classes are words for a text encoder
        return []
    return [
        (path, count, count < classes or hasattr(dataset, 'cat_ids'))
        for path, count in _head_classes(model).items()
        if count not in (classes, len(things))  # of a panoptic model, some heads are for things alone
    ]


def _classes_of(dataset) -> list:
    """Names of the classes of a data set, empty where it says none."""
    return list(getattr(dataset, 'metainfo', {}).get('classes') or ())


def _count_classes(dataset) -> int:
    """Number of classes of a data set, 0 where it says none; one of many thousand people has a number but no names."""
    return len(_classes_of(dataset)) or getattr(dataset, 'num_classes', 0)


def _head_classes(model: nn.Module) -> dict[str, int]:
    """For how many classes each head is made, by its path, without RPNs and semantic branches, which have their own."""
    return {
        path: module.num_classes
        for path, module in model.named_modules()
        if isinstance(getattr(module, 'num_classes', None), int)
        and not getattr(module, 'class_agnostic', False)
        and 'head' in path
        and not ('rpn' in path or 'semantic' in path)
    }


EMPTY = (
    'need at least one array to concatenate',
    'list index out of range',
)  # what MMEngine says of a set without images


def find_data_error(cfg: Config, caught: Exception) -> str | None:
    """A message about the data set, built by itself, that fails as ``caught`` says; None where none does."""
    for key, loader in _loaders(cfg):
        dataset = loader.get('dataset') if isinstance(loader, dict) else None
        if not isinstance(dataset, dict):
            continue
        try:
            with DefaultScope.overwrite_default_scope(cfg.get('default_scope', 'mmengine')):
                DATASETS.build(copy.deepcopy(dataset))
        except Exception as error:
            if (type(error), str(error)) != (type(caught), str(caught)):
                continue
            source = ', '.join(f'{name}={dataset[name]!r}' for name in ('data_root', 'ann_file') if dataset.get(name))
            reason = describe(error)
            if any(words in str(error) for words in EMPTY):
                reason = (
                    'no image is left: the annotation file names none, none of its categories is among the classes '
                    '(dataset.metainfo=dict(classes=(...)); without it, those of COCO), or filter_cfg leaves all out'
                )
            return f'{key}.dataset cannot be built from {source or "its config"}: {reason}'
    for key in ('val_evaluator', 'test_evaluator'):
        evaluator = cfg.get(key)
        path = evaluator.get('ann_file') if isinstance(evaluator, dict) else None
        if isinstance(caught, FileNotFoundError) and path and path in str(caught):
            return f'{key}.ann_file: no file {path!r}; it is not that of the data set, name it too'
    return None


def _loaders(cfg: Config):
    for key in ('train_dataloader', 'val_dataloader'):
        yield key, cfg.get(key)
    for name, hook in (cfg.get('default_hooks') or {}).items():
        if not isinstance(hook, dict):
            continue
        where = f'default_hooks.{name}'
        for part in ('transfer', 'head'):
            yield f'{where}.{part}.train_dataloader', (hook.get(part) or {}).get('train_dataloader')
        phases = hook.get('phases')
        for i, phase in enumerate(phases if isinstance(phases, (list, tuple)) else ()):
            yield (
                f'{where}.phases[{i}].train_dataloader',
                phase.get('train_dataloader') if isinstance(phase, dict) else None,
            )
