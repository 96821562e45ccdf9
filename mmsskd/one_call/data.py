"""Content of a folder: photos in a folder for each class, photos without labels, CIFAR's files, or boxes in COCO's format."""

import json
import random
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from ..datasets.unlabelled_images import SUFFIXES, why_broken
from ..distill.schedule.data_checks import image_header
from ..errors import ConfigError, some
from ..utils.files import write_text
from ..utils.folders import walk_files

LAYOUTS = """it may be one of
  photos in a folder for each class:   DATA/train/cat/1.jpg, DATA/val/cat/2.jpg; without val a fifth validates; or DATA/cat/1.jpg
  photos without labels:               DATA/1.jpg
  CIFAR's files:                       DATA/data_batch_1, DATA/val_batch
  boxes in COCO's format:              DATA/annotations/train.json, DATA/annotations/val.json, DATA/train/1.jpg, DATA/val/2.jpg
More photos, of which nobody has said what they show, may be in DATA/unlabelled beside any of them."""
VALIDATES = ('val', 'valid', 'validation', 'test')
UNLABELLED = ('unlabelled', 'unlabeled')
SHARE = 5  # of one folder of classes, one photo in so many validates
SEED = 0  # which ones
DECODED = 10_000  # photos up to which each is decoded once; of more only the headers are read
LOOKS = 200  # photos without labels whose size is looked at


@dataclass
class Data:
    """A data set, ready to be written into a config.

    Attributes:
        kind: What it is, in words.
        task: ``'classification'`` or ``'detection'``.
        classes: Names by position; empty where nothing is labeled.
        train, val: Configs of the data sets, without a pipeline; None where nothing is labeled.
        count: Images that train with labels; without labels where there are none.
        unlabelled: Folder of the images without labels, if any.
        unlabelled_count: How many.
        side: Pixels of an image, where all have the same.
        shorter: Pixels of the shorter side of the photo in the middle, where they differ.
        said: What was found, in a line.
    """

    kind: str
    task: str
    classes: tuple[str, ...] = ()
    train: dict | None = None
    val: dict | None = None
    count: int = 0
    unlabelled: str | None = None
    unlabelled_count: int = 0
    side: int | None = None
    shorter: int | None = None
    said: str = ''
    lists: dict[str, str] = field(default_factory=dict)  # files to be written beside the configs, and their text

    @property
    def macs(self) -> str:
        """Heading of a column: the operations that are counted of a network for this data."""
        return 'MACs' if self.task == 'classification' else 'MACs, backbone and neck'

    def write_lists(self) -> None:
        """Write which photos train and which validate, where this was decided here."""
        for path, text in self.lists.items():
            write_text(path, text)


def look_at(folder: str | Path, out: str | Path, task: str | None = None) -> Data:
    """Find out what a folder holds. Nothing is written.

    Args:
        folder: Of the data.
        out: Where the lists of a split will be.
        task: ``'classification'``, ``'detection'``, or None for what the folder says.

    Raises:
        ConfigError: It holds nothing of use, or something else than the task needs; the message says which layouts there are.
    """
    root = Path(folder).resolve()
    if not root.is_dir():
        raise ConfigError(f'data: no folder {str(folder)!r} in {Path.cwd()}; {LAYOUTS}')
    if task not in (None, 'classification', 'detection'):
        raise ConfigError(f"task must be 'classification' or 'detection', found {task!r}")
    annotations = _annotation_files(root)
    if annotations or task == 'detection':
        data = _coco(root, annotations)
    elif files := _cifar_files(root):
        data = _cifar(root, files)
    else:
        data = _photos(root, Path(out).resolve())
    if task is not None and data.task != task and data.classes:
        raise ConfigError(f'task is {task!r}, but {str(folder)!r} holds {data.kind}; {LAYOUTS}')
    if data.classes:
        _add_unlabelled(root, data)
        if data.task == 'classification' and len(data.classes) < 2:
            raise ConfigError(
                f'data: {str(folder)!r} holds one class only ({data.classes[0]}); a classifier needs two; {LAYOUTS}'
            )
    return data


def _images(folder: Path) -> list[str]:
    """Paths of the images in a folder and below it, counted from it, sorted."""
    (files,), _ = walk_files([folder])
    return [Path(file).relative_to(folder).as_posix() for file in files if file.lower().endswith(SUFFIXES)]


def _folders(root: Path) -> list[Path]:
    return sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith(('.', '__MACOSX')))


def _named(root: Path, names: Iterable[str]) -> Path | None:
    folders = {path.name.lower(): path for path in reversed(_folders(root))}
    return next((folders[name] for name in names if name in folders), None)


def _add_unlabelled(root: Path, data: Data) -> None:
    folder = _named(root, UNLABELLED)
    if folder:
        data.unlabelled, data.unlabelled_count = str(folder), len(_images(folder))
        if not data.unlabelled_count:
            raise ConfigError(f'data: {str(folder)!r} holds no image; remove the folder, or put photos into it')
        data.said += f', and {data.unlabelled_count} photos without labels'


# -- photos ------------------------------------------------------------------------------------------------------------


def _photos(root: Path, out: Path) -> Data:
    train, val = _named(root, ['train']), _named(root, VALIDATES)
    if val and not train:
        raise ConfigError(f'data: {str(root)!r} has a folder {val.name}, but no train; {LAYOUTS}')
    by_class, here = _by_class(root, train or root), _photos_in(train or root)
    for file in (file for files in by_class.values() for file in files):
        if file != file.strip() or len(file.splitlines()) > 1:  # the lists have a file on each line
            raise ConfigError(f'data: rename {file!r} in {str(root)!r}: no line break in a name, no space before it')
    for folder in (train or root, *([val] if val else [])):
        beside = _photos_in(folder)
        if beside and by_class:
            raise ConfigError(
                f'data: {str(folder)!r} holds {len(beside)} images and folders of images ({some(by_class)}): if the folders are '
                f'classes, move the images beside them into {root.name}/unlabelled; if not, move all into one folder'
            )
        if beside and train:
            raise ConfigError(
                f'data: {str(folder)!r} holds {len(beside)} images, but no folder of a class: move each into one, or, where nobody '
                f'has said what they show, name {str(folder)!r} as the data'
            )
    if not by_class and not here:
        raise ConfigError(f'data: {str(root)!r} holds no image ({", ".join(SUFFIXES)}); {LAYOUTS}')
    if not by_class:
        shorter = _shorter(_sizes(root, here[:: max(len(here) // LOOKS, 1)]))
        said = f'{len(here)} photos without labels'
        data = Data('photos without labels', 'classification', count=len(here), shorter=shorter, said=said)
        data.unlabelled, data.unlabelled_count = str(root), len(here)
        return data
    classes, held = tuple(by_class), _by_class(root, val) if val else {}
    if len(classes) == 1 and not train and len(inner := _folders(root / classes[0])) > 1:
        raise ConfigError(
            f'data: {str(root)!r} holds one folder, {classes[0]}, and that the folders {some([path.name for path in inner], 5)}: '
            f'if these are the classes, name {str(root / classes[0])!r}'
        )
    if val and tuple(held) != classes:
        raise ConfigError(
            f'data: train and {val.name} must have the same classes; only in train: {sorted(set(classes) - set(held))}, '
            f'only in {val.name}: {sorted(set(held) - set(classes))}'
        )
    sizes = _sizes(root, [file for part in (by_class, held) for files in part.values() for file in files])
    by_class = _readable(by_class, sizes, train or root)
    held = _readable(held, sizes, val or root) if val else _draw(by_class, train or root)
    by_class = {name: sorted(set(files) - set(held[name])) for name, files in by_class.items()}
    lists = {str(out / f'data/{name}.txt'): _lines(part) for name, part in (('train', by_class), ('val', held))}
    count, validate = (sum(map(len, part.values())) for part in (by_class, held))
    how = f'{validate} in {val.name}' if val else f'{validate} of them, a fifth of each class drawn with seed {SEED},'
    said = f'{count if val else count + validate} photos of {len(classes)} classes ({some(classes, 5)}); {how} validate'
    broken = [file for file, size in sizes.items() if size is None]
    silent = [] if train else [name for name in _names(root) if name not in classes]
    if silent:
        said += f'; no image in {some(silent, 5)}'
    if broken:
        said += f'; {len(broken)} left out that cannot be read ({some(broken, 5)})'
    listed = dict(type='mmpretrain.CustomDataset', classes=list(classes), data_prefix=str(root))
    sets = [dict(listed, ann_file=path) for path in lists]
    kind, shorter = 'photos in a folder for each class', _shorter(sizes)
    return Data(kind, 'classification', classes, sets[0], sets[1], count, shorter=shorter, said=said, lists=lists)


def _photos_in(folder: Path) -> list[str]:
    """Names of the images in a folder itself."""
    return sorted(path.name for path in folder.iterdir() if path.is_file() and path.name.lower().endswith(SUFFIXES))


def _names(folder: Path) -> list[str]:
    return [path.name for path in _folders(folder) if path.name.lower() not in UNLABELLED]


def _readable(by_class: dict[str, list[str]], sizes: dict, folder: Path) -> dict[str, list[str]]:
    """The images of each class without those whose header cannot be read."""
    found = {name: [file for file in files if sizes[file]] for name, files in by_class.items()}
    empty = [str(folder / name) for name, files in found.items() if not files]
    if empty:
        raise ConfigError(f'data: no image that can be read in {", ".join(empty)} ({", ".join(SUFFIXES)})')
    return found


def _draw(by_class: dict[str, list[str]], folder: Path) -> dict[str, list[str]]:
    """Those that validate: a fifth of each class, at least one photo."""
    few = [name for name, files in by_class.items() if len(files) < 2]
    if few:
        raise ConfigError(
            f'data: {", ".join(few)} in {str(folder)!r} has one image; one to train and one to validate are needed'
        )
    drawn = {name: random.Random(SEED).sample(files, max(len(files) // SHARE, 1)) for name, files in by_class.items()}
    return {name: sorted(files) for name, files in drawn.items()}


def _lines(by_class: dict[str, list[str]]) -> str:
    return ''.join(f'{file} {label}\n' for label, files in enumerate(by_class.values()) for file in files)


def _by_class(root: Path, folder: Path) -> dict[str, list[str]]:
    """Paths of the images of each class, counted from the root. In the root itself a folder without images is no class."""
    above = '' if folder == root else f'{folder.relative_to(root).as_posix()}/'
    found = {name: [f'{above}{name}/{file}' for file in _images(folder / name)] for name in _names(folder)}
    return {name: files for name, files in found.items() if files or folder != root}


def _sizes(root: Path, files: list[str]) -> dict[str, tuple[int, int] | None]:
    """Width and height of each image, as its header says; None where it is no image, or, of not too many, broken further on."""
    sizes = {file: image_header(str(root / file))[0] for file in files}
    if len(files) <= DECODED:
        sizes |= {file: None for file in files if why_broken(str(root / file))}
    return sizes


def _shorter(sizes: dict[str, tuple[int, int] | None]) -> int | None:
    """The shorter side of the image in the middle, in pixels."""
    sides = sorted(min(size) for size in sizes.values() if size)
    return sides[len(sides) // 2] if sides else None


# -- CIFAR -------------------------------------------------------------------------------------------------------------


def _cifar_files(root: Path) -> list[str]:
    named = re.compile(r'(data_batch|train|val|test)([^.]*|.*\.(pkl|pickle|bin))')
    return sorted(path.name for path in root.iterdir() if path.is_file() and named.fullmatch(path.name))


def _cifar(root: Path, files: list[str]) -> Data:
    from ..datasets import CIFARFiles
    from ..utils.safe_pickle import load_data

    held = [name for name in files if name.startswith('val')] or [name for name in files if name.startswith('test')]
    train = [name for name in files if name.startswith(('data_batch', 'train'))]
    if not held or not train:
        lacks = 'none to train, such as data_batch_1' if held else 'none to validate, such as val_batch or test_batch'
        raise ConfigError(f'data: {str(root)!r} has the files {", ".join(files)} of CIFAR, but {lacks}')
    images = CIFARFiles(str(root), train)
    labels = [images.get_data_info(i).get('gt_label') for i in range(len(images))]
    if None in labels:
        raise ConfigError(f'data: {train[0]!r} in {str(root)!r} has no labels; put them under the key labels')
    names: list[str] = []
    for meta in ('batches.meta', 'meta'):
        if (root / meta).is_file():
            with (root / meta).open('rb') as file:
                content = load_data(file, encoding='latin1')
            names = list(content.get('label_names') or content.get('fine_label_names') or [])
    classes = tuple(names or map(str, range(max(labels) + 1)))
    part = dict(type='mmsskd.CIFARFiles', data_root=str(root), classes=list(classes))
    side = images.get_data_info(0)['img'].shape[0]
    said = f'{len(images)} images of {side} pixels in {", ".join(train)}, {len(classes)} classes ({some(classes, 5)})'
    said += f'; {", ".join(held)} validates'
    sets = [dict(part, files=train), dict(part, files=held)]
    return Data(
        'files in the format of CIFAR', 'classification', classes, sets[0], sets[1], len(images), side=side, said=said
    )


# -- COCO --------------------------------------------------------------------------------------------------------------


def _annotation_files(root: Path) -> list[Path]:
    found = [*root.glob('*.json'), *root.glob('annotations/*.json'), *root.glob('*/_annotations.coco.json')]
    return sorted(path for path in found if not re.search(r'(captions|keypoints|panoptic|image_info)', path.name))


def _coco(root: Path, files: list[Path]) -> Data:
    train = [path for path in files if 'train' in _split_name(root, path)]
    val = [path for path in files if path not in train and any(name in _split_name(root, path) for name in VALIDATES)]
    val.sort(key=lambda path: 'test' in _split_name(root, path))
    if not train or not val:
        lacks = ' and '.join(name for name, found in (('train', train), ('val', val)) if not found)
        there = f'; there are {", ".join(path.relative_to(root).as_posix() for path in files)}' if files else ''
        raise ConfigError(f"data: {str(root)!r} has no annotations to {lacks} in COCO's format{there}; {LAYOUTS}")
    contents = [_read_coco(path) for path in (train[0], val[0])]
    classes = tuple(category['name'] for category in contents[0]['categories'])
    part, sets = dict(type='mmdet.CocoDataset', data_root=f'{root}/', metainfo=dict(classes=classes)), []
    for path, content in zip((train[0], val[0]), contents):
        prefix = dict(img=_image_folder(root, path, content))
        sets.append(dict(part, ann_file=path.relative_to(root).as_posix(), data_prefix=prefix))
    count, validate = (len(content['images']) for content in contents)
    said = f'{count} photos with boxes of {len(classes)} classes ({some(classes, 5)}); {validate} more validate'
    return Data("boxes in COCO's format", 'detection', classes, sets[0], sets[1], count, said=said)


def _split_name(root: Path, path: Path) -> str:
    return (path.parent.name if path.name.startswith('_') else path.stem).lower()


def _read_coco(path: Path) -> dict:
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ConfigError(f'data: cannot read {str(path)!r} as JSON ({error})') from error
    parts = content if isinstance(content, dict) else {}
    missing = [key for key in ('images', 'annotations', 'categories') if not parts.get(key)]
    if missing:
        raise ConfigError(
            f'data: {str(path)!r} must have images, annotations and categories, as COCO has; {", ".join(missing)} is empty'
        )
    return parts


def _image_folder(root: Path, path: Path, content: dict) -> str:
    """The folder of a split's images, counted from the root, in which its first image is."""
    first, split = content['images'][0]['file_name'], path.stem.rpartition('_')[2]
    tried = [f'{split}/', f'images/{split}/', 'images/', '']
    if path.name.startswith('_'):
        tried.insert(0, f'{path.parent.name}/')
    for folder in tried:
        if (root / folder / first).is_file():
            return folder
    places = ', '.join(str(root / folder) for folder in tried)
    raise ConfigError(f'data: no image {first!r} of {str(path)!r} in {places}')
