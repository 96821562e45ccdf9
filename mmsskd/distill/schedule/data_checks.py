"""Data checks before training and testing: names, ids, sizes and files of the data sets, against each other and the heads."""

import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mmengine.config import Config
from mmengine.dataset import BaseDataset
from mmengine.evaluator import Evaluator
from mmengine.hooks import Hook
from mmengine.logging import MMLogger
from mmengine.runner import Runner
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, Dataset

from ...errors import ConfigError, candidates, describe, part_in_work, some
from ...utils.coco_list import CocoList, as_coco_list, read_coco_list
from ...version import __version__
from ..distiller import StagewiseDistiller
from ..phases import Phase, loader_keys
from .checks import check_load_from
from .mmengine_private import built_loops, is_resuming, metainfo_of

MOST_FILES = 200_000  # looked for; of a larger set, every n-th
STAT_SECONDS = 2  # of looking at sizes of files: all of them on a local disk, on a network disk it would take minutes
MOST_DECODED = 256  # images of a set whose size is looked at
FEW = 0.01  # share of images of another size than listed up to which it is only said
TEACHER = (
    'model.teacher_checkpoint, whose head or logits the student takes over (only features are followed without '
    'model.init_from_teacher and logits)'
)
OWN_CLASSES = ('rpn', 'semantic', 'reid', 'decode_head', 'auxiliary_head')  # parts of the paths of heads
ORIENTATION = 0x0112  # EXIF's tag; from 5 on, width and height change places


# -- who calls ---------------------------------------------------------------------------------------------------------


def check_data(
    runner: Runner, phases: Sequence[Phase], loaders: Sequence[DataLoader], distiller: StagewiseDistiller
) -> None:
    """Check the data sets of a stage-by-stage run, and that of validation with its evaluators; see :func:`check_datasets`.

    Where the student takes over the teacher's head or logits, the teacher says what the labels mean.
    """
    datasets, unlabelled = {}, []
    for key, phase, loader in zip(loader_keys(phases), phases, loaders):
        datasets[key] = loader.dataset
        if phase.train_dataloader and not phase.task_loss:
            unlabelled.append(key)
    if runner.val_loop is not None:
        datasets['val_dataloader'] = runner.val_loop.dataloader.dataset
    reference = None
    if distiller.teacher_classes and (distiller.has_teacher_head or any(phase.logits for phase in phases)):
        reference = TEACHER, distiller.teacher_classes
    _check_of_runner(
        runner, datasets, model=distiller.student, where='model.student', unlabelled=unlabelled, reference=reference
    )


def check_loops(
    runner: Runner,
    model: nn.Module | None = None,
    checkpoint: Mapping | None = None,
    splits: Sequence[str] = ('train', 'val', 'test'),
) -> None:
    """Check the data sets of those loops of a plain Runner that are built, with their evaluators; see :func:`check_datasets`.

    Args:
        runner: Of any MMEngine config.
        model: Its heads must have a place for each class; None: they are not looked at.
        checkpoint: What is tested; where a run of ours wrote it, its class names are the order of the labels.
        splits: Which loops.
    """
    loops = built_loops(runner, splits)
    datasets = {
        f'{split}_dataloader': loop.dataloader.dataset
        for split, loop in loops.items()
        if isinstance(getattr(loop, 'dataloader', None), DataLoader)
    }
    meta = (checkpoint or {}).get('meta') or {}
    names = (meta.get('dataset_meta') or {}).get('classes') if isinstance(meta.get('dataset_meta'), Mapping) else None
    ours = 'mmsskd_version' in meta or 'stage_schedule' in (checkpoint or {})
    # in a phase that learns no labels, a checkpoint has the names of its data, which may be others
    fits = names and any(
        len(names) == count_classes(one) for outer in datasets.values() for _, one in plain_datasets(outer)
    )
    reference = ('the checkpoint', tuple(names)) if ours and fits else None
    _check_of_runner(runner, datasets, model=model, reference=reference)


class DataChecks(Hook):
    """Check the data of a run that is not stage by stage: ``before_run``, when the loops are built and nothing has trained; and
    whether the weights of ``load_from`` are the model's.

    Checkpoints say that their class names are in the order of the labels.
    """

    def before_run(self, runner: Runner) -> None:
        check_loops(runner, getattr(runner.model, 'module', runner.model))

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        if not is_resuming(runner):
            check_load_from(runner, checkpoint, getattr(runner.model, 'module', runner.model))

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        checkpoint['meta']['mmsskd_version'] = __version__


def _check_of_runner(runner: Runner, datasets: Mapping[str, Any], **options) -> None:
    cfg = getattr(runner, 'cfg', None) or {}
    loops = built_loops(runner, ('val', 'test'))
    evaluators = {f'{split}_dataloader': loop.evaluator for split, loop in loops.items() if hasattr(loop, 'evaluator')}
    outside = bool(cfg.get('outside_files', False))
    if check_datasets(datasets, runner.logger, evaluators=evaluators, outside_files=outside, **options):
        for key, evaluator in evaluators.items():
            if key in datasets:
                evaluator.dataset_meta = datasets[key].metainfo
        runner.visualizer.dataset_meta = next(iter(datasets.values())).metainfo


# -- the checks --------------------------------------------------------------------------------------------------------


def check_datasets(
    datasets: Mapping[str, Dataset],
    logger: MMLogger,
    *,
    evaluators: Mapping[str, Evaluator] | None = None,
    model: nn.Module | None = None,
    where: str = 'model',
    unlabelled: Sequence[str] = (),
    reference: tuple[str, Sequence[str]] | None = None,
    outside_files: bool = False,
) -> bool:
    """Check data sets against their files, their lists, each other, their evaluators and the heads.

    A label must mean the same everywhere. mmdet numbers the classes of a list in COCO's format by the order of its
    ``categories``, whatever ``metainfo`` says: where the names in ``metainfo`` are in another order, they are put into that one.

    Args:
        datasets: By their keys in the config, the training sets first; wrappers are looked into.
        logger: Takes warnings.
        evaluators: By the keys of their data sets.
        model: Its heads must have a place for each class.
        where: Key of the model in the config.
        unlabelled: Keys of data sets whose labels nothing learns, so that they may have other names.
        reference: Who says what the labels mean, and the names in their order; None: the first of ``datasets`` with labels.
        outside_files: Whether lists may name files by absolute paths or with ``..``.

    Returns:
        Whether names were put into another order.

    Raises:
        ConfigError: With key, file, what was found, and the fix.
    """
    lists, names, renamed = {}, {}, False
    for key, outer in datasets.items():
        for path, dataset in plain_datasets(outer):
            if id(dataset) in names:
                continue
            place = f'{key}{path}'
            _check_names_given(dataset, place)
            coco = lists[id(dataset)] = _read_list(dataset)
            if coco is not None:
                coco.check(place, logger.warning, _classes_of(dataset), _loads_masks(dataset), outside_files)
                _check_categories(dataset, coco, place, logger)
            if _reads_local_files(dataset):
                _check_files(dataset, coco, place)
                _check_sizes(dataset, coco, place, logger)
            if model is not None:
                _check_classes(dataset, model, place, where, logger)
            names[id(dataset)] = _label_names(dataset, coco)
            renamed |= _put_in_order(dataset, names[id(dataset)], place, logger)
        if renamed:
            _renew_metainfo(outer)
    for key, outer in datasets.items():
        for path, dataset in plain_datasets(outer) if key not in unlabelled else ():
            own = names[id(dataset)]
            if reference is not None and own:
                _compare_names(reference, (f'{key}{path}', own), logger, _how_numbered(dataset, lists[id(dataset)]))
            elif own:
                reference = f'{key}{path}', own
        if key in (evaluators or {}):
            _check_evaluator(evaluators[key], key, outer, lists, names, logger, outside_files)
    return renamed


def plain_datasets(dataset, path: str = '') -> Iterator[tuple[str, Dataset]]:
    """The data sets inside wrappers that concatenate, repeat or mix, and where: ``''``, or ``' datasets[1]'``."""
    if hasattr(dataset, 'datasets'):
        for i, inner in enumerate(dataset.datasets):
            yield from plain_datasets(inner, f'{path or " "}datasets[{i}]')
    elif hasattr(dataset, 'dataset'):
        yield from plain_datasets(dataset.dataset, path)
    else:
        yield path, dataset


def _check_names_given(dataset, key: str) -> None:
    classes = getattr(dataset, 'metainfo', {}).get('classes')
    if isinstance(classes, str):
        raise ConfigError(
            f'{key}: metainfo.classes is the string {classes!r}, not a tuple; write classes=({classes!r},) with the comma, or the '
            'path of a file with one name a line that exists.'
        )


def _read_list(dataset) -> CocoList | None:
    """The list of a data set in COCO's format, whose data set numbers classes by it; None of any other."""
    if not hasattr(dataset, 'cat_ids') or not hasattr(dataset, 'cat_img_map'):
        return None
    return read_coco_list(dataset.ann_file, getattr(dataset, 'backend_args', None))


def _loads_masks(dataset) -> bool:
    transforms = getattr(getattr(dataset, 'pipeline', None), 'transforms', ())
    return any(getattr(transform, 'with_mask', False) for transform in transforms)


# -- names -------------------------------------------------------------------------------------------------------------


def _check_categories(dataset, coco: CocoList, key: str, logger: MMLogger) -> None:
    """mmdet leaves out what it does not know, and numbers the classes by what it finds."""
    classes, found = _classes_of(dataset), list(coco.names.values())
    absent = [name for name in classes if name not in found] if len(dataset.cat_ids) != len(classes) else []
    if absent:
        raise ConfigError(
            f'{key}: {len(absent)} of {len(classes)} classes are not in {dataset.ann_file!r}: {", ".join(map(repr, absent[:5]))}; '
            f'{candidates(absent[0], found)}. Set dataset.metainfo=dict(classes=(...)) and num_classes to what is in the file, or '
            'add the category to the file.'
        )
    unknown = [id_ for id_, images in dataset.cat_img_map.items() if images and id_ not in dataset.cat_ids]
    left_out = [coco.names[id_] for id_ in coco.names if id_ in unknown]
    if left_out:
        logger.warning(
            f'{key}: {dataset.ann_file!r} also has annotations of {len(left_out)} classes that the config does not name, left '
            f'out: {some(left_out, 8)}'
        )


def _label_names(dataset, coco: CocoList | None) -> tuple:
    """The meaning of each label; empty where nothing says it, or classes are words for a text encoder."""
    if getattr(dataset, 'return_classes', False):
        return ()
    if coco is not None and all(id_ in coco.names for id_ in dataset.cat_ids):
        return tuple(coco.names[id_] for id_ in dataset.cat_ids)
    return tuple(_classes_of(dataset))


def _put_in_order(dataset, names: tuple, key: str, logger: MMLogger) -> bool:
    """Put the names of a data set into the order of its labels, its palette with them; say whether they were in another."""
    given = tuple(_classes_of(dataset))
    if given == names or len(given) != len(names) or set(given) != set(names):
        return False
    logger.warning(
        f'{key}: dataset.metainfo names the classes as {_some(given)}, but mmdet numbers them by the order of `categories` in '
        f'{dataset.ann_file!r}: {_some(names)}. The names are taken in that order.'
    )
    palette = dataset.metainfo.get('palette')
    if isinstance(palette, (list, tuple)) and len(palette) == len(given):
        metainfo_of(dataset)['palette'] = [palette[given.index(name)] for name in names]
    metainfo_of(dataset)['classes'] = names
    return True


def _renew_metainfo(outer) -> None:
    """Wrappers have copies of what the data sets inside them say."""
    inner = getattr(outer, 'datasets', None) or ([outer.dataset] if hasattr(outer, 'dataset') else [])
    for dataset in inner:
        _renew_metainfo(dataset)
    own = metainfo_of(outer)
    for copied, dataset in zip(own if isinstance(own, list) else [own], inner):
        if isinstance(copied, dict):
            new = dataset.metainfo
            copied.update({name: new[name] for name in ('classes', 'palette') if name in new})


def _compare_names(reference: tuple[str, Sequence], other: tuple[str, Sequence], logger: MMLogger, fix: str) -> None:
    """Refuse two sets whose labels mean different classes; say it where all names are others, or some are missing at the end.

    Names that differ in case and punctuation only are the same.
    """
    (where, names), (key, own) = reference, other
    first, related = _first_difference(names, own)
    if first is None and len(names) == len(own):
        return
    if first is None:
        logger.warning(f'{key}: {len(own)} classes, the first of the {len(names)} of {where}, or more than them')
    elif not related:
        logger.warning(f'{key}: its classes ({_some(own)}) have other names than those of {where} ({_some(names)})')
    else:
        raise ConfigError(
            f'{key}: label {first} means {own[first]!r}, but {names[first]!r} in {where}. Order of the classes here: '
            f'{_some(own, first)}; there: {_some(names, first)}. {fix}'
        )


def _how_numbered(dataset, coco: CocoList | None) -> str:
    """Say where the order of the labels of a data set comes from, and so the fix."""
    if coco is not None:
        return f'mmdet numbers classes by the order of `categories`: put those of {coco.path!r} into the same order.'
    if hasattr(dataset, 'folder_to_idx'):
        return (
            f'Labels follow the sorted folders in {dataset.img_prefix!r}: make them those of the other set, an empty folder for a '
            'class without images.'
        )
    return 'Name the same classes in the same order (dataset.metainfo=dict(classes=(...))).'


def _first_difference(names: Sequence, others: Sequence) -> tuple[int | None, bool]:
    """The first label of which these names differ in more than case and punctuation, and whether any name is in both."""
    one, two = ([re.sub(r'[\W_]+', '', str(name)).casefold() or str(name) for name in each] for each in (names, others))
    return next((i for i, (a, b) in enumerate(zip(one, two)) if a != b), None), bool(set(one) & set(two))


def _some(names: Sequence, first: int = 0) -> str:
    """A few names, from shortly before number ``first`` on."""
    begin = max(first - 2, 0)
    shown = ', '.join(map(str, names[begin : begin + 6]))
    return f'{"..., " if begin else ""}{shown}{", ..." if len(names) > begin + 6 else ""}'


# -- evaluators --------------------------------------------------------------------------------------------------------


def _check_evaluator(evaluator, key: str, outer, lists, names, logger: MMLogger, outside_files: bool) -> None:
    """The list of each metric that has one must be that of the data set: same images, same order of the classes."""
    plain = [dataset for _, dataset in plain_datasets(outer)]
    each = hasattr(evaluator, 'dataset_prefixes') and len(evaluator.metrics) == len(plain)  # a metric for each data set
    where = key.replace('_dataloader', '_evaluator')
    for i, metric in enumerate(evaluator.metrics):
        api = getattr(metric, '_coco_api', None) or getattr(metric, '_lvis_api', None)
        coco = as_coco_list(getattr(api, 'dataset', None), f'ann_file of {where}')
        measured = [plain[i]] if each else plain
        theirs = [lists[id(dataset)] for dataset in measured]
        if coco is None or None in theirs or not names[id(measured[0])]:
            continue
        classes = _classes_of(measured[0])
        coco.check(where, lambda _: None, classes, 'segm' in (getattr(metric, 'metrics', None) or ()), outside_files)
        _check_same_images(coco, theirs, where, key, logger)
        ids = getattr(metric, 'cat_ids', None) or [
            id_ for id_, name in coco.names.items() if name in classes or not hasattr(metric, '_coco_api')
        ]
        own = tuple(coco.names[id_] for id_ in ids)
        fix = 'Set ann_file of the evaluator to that of the data set (Objects365: sort_categories=True).'
        _compare_names((key, names[id(measured[0])]), (where, own), logger, fix)
        if hasattr(metric, '_coco_api'):
            _fill_crowds(api.dataset, where, logger)


def _check_same_images(coco: CocoList, theirs: Sequence[CocoList], where: str, key: str, logger: MMLogger) -> None:
    images = {id_: name for other in theirs for id_, (*_, name) in other.images.items()}
    missing = [id_ for id_ in images if id_ not in coco.images]
    more = [id_ for id_ in coco.images if id_ not in images]
    renamed = [id_ for id_, name in images.items() if id_ in coco.images and _base(name) != _base(coco.images[id_][-1])]
    for ids, what in ((missing, 'are not in it'), (more, 'are only in it'), (renamed, 'are other files in it')):
        if ids:
            name = images.get(ids[0]) or coco.images[ids[0]][-1]
            raise ConfigError(
                f'{where}.ann_file is another list than that of {key} ({", ".join(repr(other.path) for other in theirs)}): '
                f'{len(ids)} image ids {what}, the first {ids[0]!r} ({name}). Set it to the ann_file of the data set.'
            )
    count = sum(other.count for other in theirs)
    if count != coco.count:
        logger.warning(f'{where}.ann_file has {coco.count} annotations, the list of {key} {count}, of the same images')


def _fill_crowds(content: Mapping, where: str, logger: MMLogger) -> None:
    """Without ``iscrowd``, which COCO's own evaluation reads, an annotation is no crowd."""
    without = [
        item for item in content.get('annotations') or () if 'iscrowd' not in item and 'segments_info' not in item
    ]
    for item in without:
        item['iscrowd'] = 0
    if without:
        logger.warning(f'{where}.ann_file: {len(without)} annotations have no iscrowd; they are taken as no crowds')


def _base(path: str) -> str:
    return path.rpartition('/')[2]


# -- files -------------------------------------------------------------------------------------------------------------


def _check_files(dataset, coco: CocoList | None, key: str) -> None:
    """Every image must be there, and have content."""
    if 'img_path' not in BaseDataset.get_data_info(dataset, 0):
        return
    listed = _paths_of_list(dataset, coco)
    paths = listed or _paths(dataset)
    missing = _missing(paths)
    empty = [] if missing else _empty(paths)
    if listed and (missing or empty):  # the data set may have left out some of its list
        used = set(paths := _paths(dataset))
        missing, empty = ([path for path in found if path in used] for found in (missing, empty))
    if missing:
        raise ConfigError(
            f'{key}: {len(missing)} of {len(paths)} images are not there: {some(missing)}. Set data_root and data_prefix so that '
            f'with the file names of the annotation file they give paths from {os.getcwd()}.'
        )
    if empty:
        raise ConfigError(
            f'{key}: {len(empty)} of {len(paths)} images have 0 bytes: {some(empty)}. Fetch them again, or remove them.'
        )


def _paths(dataset) -> list[str]:
    """Paths of the images of a data set, of a very large one of every n-th."""
    paths = [BaseDataset.get_data_info(dataset, i).get('img_path') for i in spread(len(dataset), MOST_FILES)]
    return [path for path in paths if isinstance(path, str) and '://' not in path]


def _paths_of_list(dataset, coco: CocoList | None) -> list[str] | None:
    """The same from the list, which is much faster; None where the data set does not join prefix and file name."""
    prefix = getattr(dataset, 'data_prefix', {}).get('img')
    if coco is None or not isinstance(prefix, str) or '://' in prefix:
        return None
    for i in spread(len(dataset), 16):
        info = BaseDataset.get_data_info(dataset, i)
        image = coco.images.get(info.get('img_id'))
        if image is None or os.path.join(prefix, image[-1]) != info.get('img_path'):
            return None
    names = [name for *_, name in coco.images.values()]
    return [os.path.join(prefix, names[i]) for i in spread(len(names), MOST_FILES)]


def _missing(paths: Sequence[str]) -> list[str]:
    """Find the files that are not there. Folders are listed once: a look at each file takes minutes on a network disk."""
    parts = [os.path.split(path) for path in paths]
    there = {folder: _listing(folder) for folder in {folder for folder, _ in parts}}
    known = [(path, name, there[folder]) for path, (folder, name) in zip(paths, parts)]
    return [path for path, name, names in known if names is not None and name not in names]


def _empty(paths: Sequence[str]) -> list[str]:
    """Find the files without content, as far as time allows, in an order that spreads over the set."""
    found, end = [], time.monotonic() + STAT_SECONDS
    for start in range(64):
        for path in paths[start::64]:
            try:
                if not os.stat(path).st_size:
                    found.append(path)
            except OSError:
                continue
            if time.monotonic() > end:
                return found
    return found


def _reads_local_files(dataset) -> bool:
    """Whether there are images that OpenMMLab's own loading transform reads from a local disk; another may find them elsewhere."""
    if not isinstance(dataset, BaseDataset) or not len(dataset):
        return False
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


def spread(count: int, most: int) -> range:
    """At most ``most`` indices below ``count``, evenly spread."""
    return range(0, count, max(-(-count // most), 1))


def _check_sizes(dataset, coco: CocoList | None, key: str, logger: MMLogger) -> None:
    """Look whether images have the size that is listed when the data set's own transform decodes them; of a sample, by headers.

    Boxes are clipped by the listed size and learned on the decoded one, which EXIF may turn.
    """
    looked = 0
    wrong: list[str] = []
    for i in spread(len(dataset), MOST_DECODED):
        info = BaseDataset.get_data_info(dataset, i)
        path, listed = info.get('img_path'), (info.get('width'), info.get('height'))
        if not isinstance(path, str) or '://' in path or not all(isinstance(value, (int, float)) for value in listed):
            return
        looked += 1
        header, orientation = image_header(path)
        if header == listed and orientation in (None, 1, 2, 3, 4):
            continue
        if len(wrong) < 8:  # else the header must do
            found = _decoded(dataset, path, key)
            if found is None or found == listed:
                continue
            turned = f', turned by its EXIF orientation {orientation}' if header != found and header is not None else ''
            wrong.append(f'{path} (image id {info.get("img_id")!r}) is {found[0]} x {found[1]}{turned}, but listed as ')
            wrong[-1] += f'{listed[0]} x {listed[1]}'
        elif header is not None:
            wrong.append(path)
    if not wrong:
        return
    exif = ' or, where its boxes are those of the unturned images, load it with' if 'turned by' in wrong[0] else ''
    exif += " LoadImageFromFile(color_type='color_ignore_orientation')" if exif else ''
    message = (
        f'{key}: {len(wrong)} of {looked} images that were looked at have another size than listed: {"; ".join(wrong[:2])}. mmdet '
        f'leaves out boxes beyond the listed size, and learns them on the decoded image; fix the list{exif}.'
    )
    if coco is None or len(wrong) <= FEW * looked:
        logger.warning(message)
    else:
        raise ConfigError(message)


def image_header(path: str) -> tuple[tuple[int, int] | None, int | None]:
    """Size of an image before EXIF, and EXIF's orientation; None where Pillow cannot tell."""
    try:
        with Image.open(path) as image:
            return image.size, image.getexif().get(ORIENTATION)
    except Exception:  # a format that another library reads
        return None, None


def _decoded(dataset, path: str, key: str) -> tuple[int, int] | None:
    """Width and height as the data set's own transform gives them; None where it leaves out what it cannot read."""
    try:
        results = dataset.pipeline.transforms[0].transform(dict(img_path=path))
    except Exception as error:
        raise ConfigError(f'{key}: {path!r} cannot be decoded: {error}. Fetch it again, or remove it.') from error
    return None if results is None else tuple(results['img'].shape[1::-1])


# -- heads -------------------------------------------------------------------------------------------------------------


def other_classes(model: nn.Module, dataset: Dataset) -> str | None:
    """Say why ``model`` cannot be measured on ``dataset``: a head is made for another number of classes. None where it can."""
    wrong = next((f'{path} for {count}' for path, count, refused in _unequal(model, dataset) if refused), None)
    return None if wrong is None else f'{wrong} classes, the data set has {count_classes(dataset)}'


def classes_of_task(model: nn.Module, dataset: Dataset) -> int:
    """Number of classes among which ``model`` chooses on ``dataset``; 0 where neither says it."""
    counts = [count_classes(plain) for _, plain in plain_datasets(dataset)]
    return max([*counts, *([] if any(counts) else head_classes(model).values())], default=0)


def other_order(classes: Sequence[str], dataset: Dataset) -> str | None:
    """Say where the classes of a teacher stand in another order than those of ``dataset``; None where they do not."""
    for _, plain in plain_datasets(dataset):
        own = _classes_of(plain)
        first, related = _first_difference(classes, own)
        if first is not None and related:
            return f'label {first} means {own[first]!r}, but {classes[first]!r} in model.teacher_checkpoint'
    return None


def _check_classes(dataset, model: nn.Module, key: str, where: str, logger: MMLogger) -> None:
    classes = _classes_of(dataset)
    names = f' ({some(classes, 5)})' if classes else ''
    for path, count, refused in _unequal(model, dataset):
        message = (
            f'{key}: {count_classes(dataset)} classes{names}, but {where}.{path} is made for {count}. Set its num_classes'
            f'{", or dataset.metainfo=dict(classes=(...))" if classes else ""}.'
        )
        if refused:
            raise ConfigError(message)
        logger.warning(message)


def _unequal(model: nn.Module, dataset) -> list[tuple[str, int, bool]]:
    """Path and number of classes of each head made for another number than the data set has, and whether that cannot work.

    A head must have a place for each class, and in detection no others: COCO's metric stops at a class that it does not know.
    """
    classes, things = count_classes(dataset), getattr(dataset, 'metainfo', {}).get('thing_classes') or ()
    if not classes or getattr(dataset, 'return_classes', False):  # the latter: classes are words for a text encoder
        return []
    return [
        (path, count, count < classes or hasattr(dataset, 'cat_ids'))
        for path, count in head_classes(model).items()
        if count not in (classes, len(things))  # of a panoptic model, some heads are for things alone
    ]


def _classes_of(dataset) -> list:
    """Names of the classes of a data set, empty where it says none."""
    return list(getattr(dataset, 'metainfo', {}).get('classes') or ())


def count_classes(dataset) -> int:
    """Number of classes of a data set, 0 where it says none; one of many thousand people has a number but no names."""
    return len(_classes_of(dataset)) or getattr(dataset, 'num_classes', 0)


def head_classes(model: nn.Module) -> dict[str, int]:
    """For how many classes each head is made, by its path, without those that have classes of their own: RPNs, semantic branches,
    whom a tracker tells apart."""
    return {
        path: module.num_classes
        for path, module in model.named_modules()
        if isinstance(getattr(module, 'num_classes', None), int)
        and not getattr(module, 'class_agnostic', False)
        and 'head' in path
        and not any(part in path for part in OWN_CLASSES)
    }


# -- data sets that cannot be built -----------------------------------------------------------------------------------

# what MMEngine says of a set without images
EMPTY = ('need at least one array to concatenate', 'list index out of range')


def find_data_error(cfg: Config, caught: Exception) -> str | None:
    """A message about the data set or evaluator in whose making ``caught`` was raised; None where it was in none."""
    loaders = [f'{split}_dataloader' for split in ('train', 'val', 'test')]
    first = {key: cfg.get(key) for key in loaders}  # two may be equal
    found = re.match(r'\.(.+\.(dataset|datasets\[\d+\]))(?!\w)', part_in_work({**first, **cfg}, caught)[0])
    if found:
        dataset: Any = cfg
        for key in re.findall(r'\w+', found[1]):
            dataset = dataset[int(key) if key.isdecimal() and isinstance(dataset, (list, tuple)) else key]
        return _why_not_built(dataset, found[1], caught, bool(cfg.get('outside_files', False)))
    for key in ('val_evaluator', 'test_evaluator'):
        evaluator = cfg.get(key)
        path = evaluator.get('ann_file') if isinstance(evaluator, dict) else None
        if isinstance(caught, FileNotFoundError) and path and path in str(caught):
            return f'{key}.ann_file: no file {path!r}; it is not that of the data set, name it too'
    return None


def _why_not_built(dataset: Mapping, where: str, error: Exception, outside_files: bool) -> str:
    """Find what is wrong with a data set that cannot be built: in its list where that can be read, else what was raised."""
    classes = dataset.get('classes') or (dataset.get('metainfo') or {}).get('classes')
    if isinstance(classes, str) and not os.path.isfile(classes):
        return f'{where}: classes={classes!r} is a string, but no file of that name is there; a tuple of one is ({classes!r},).'
    path = os.path.join(dataset.get('data_root') or '', dataset.get('ann_file') or '')
    try:
        coco = read_coco_list(path, dataset.get('backend_args'))
        if coco is not None:
            coco.check(where, lambda _: None, classes or (), False, outside_files)
    except ConfigError as found:
        return str(found)
    except Exception:  # it cannot be read, which is what was raised
        pass
    source = ', '.join(f'{name}={dataset[name]!r}' for name in ('data_root', 'ann_file') if dataset.get(name))
    reason = describe(error)
    if any(words in str(error) for words in EMPTY):
        reason = (
            'no image is left: the annotation file names none, none of its categories is among the classes '
            '(dataset.metainfo=dict(classes=(...)); without it, those of COCO), or filter_cfg leaves all out'
        )
    return f'{where} cannot be built from {source or "its config"}: {reason}'
