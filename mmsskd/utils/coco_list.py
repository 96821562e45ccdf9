"""One annotation file in COCO's format: its ids, names, sizes and boxes, and what is refused of them."""

import gc
import io
import json
import os
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout, suppress
from itertools import chain
from typing import Any

import numpy as np
from mmengine.fileio import get

from ..errors import ConfigError, some

REACHES = 2.0  # pixels beyond its image from which a box is said to lie outside: tools round, and some count from 1


class CocoList:
    """The content of an annotation file.

    Args:
        content: As ``json`` reads the file.
        path: Of the file, for messages.

    Attributes:
        names: Name of each category by its id, in the file's order, by which mmdet numbers the classes.
        images: Size (width, height) and file name of each image by its id.
        count: Number of annotations.
    """

    def __init__(self, content: Mapping, path: str):
        self.path, self._content = path, content
        self.names: dict = {}
        self.images: dict = {}
        self.count = len(content.get('annotations') or ())

    def check(
        self, key: str, say: Callable[[str], None], classes: Sequence[str], masks: bool, outside_files: bool
    ) -> None:
        """Refuse what mmdet would stop at in mid-epoch or take for something else, and say which boxes it leaves out.

        Args:
            key: Of the data set in the config, for messages.
            say: Takes warnings.
            classes: Those of the data set; annotations of others do not count.
            masks: Whether masks are learned or measured, so that each annotation needs a segmentation.
            outside_files: Whether file names may be absolute or have ``..``.

        Raises:
            ConfigError: With the file, the id and the fix.
        """
        where = f'{key}: {self.path!r}'
        self._check_categories(where, classes)
        self._check_images(where, outside_files)
        annotations = self._content.get('annotations') or ()
        if annotations and 'segments_info' not in annotations[0]:  # those of a panoptic list have no boxes of their own
            self._check_annotations(where, say, list(annotations), set(classes), masks)
        self._content = {}  # half a GB in COCO

    def _check_categories(self, where: str, classes: Sequence[str]) -> None:
        categories = self._content['categories']
        for category in categories:
            if _no_id(category.get('id')) or not isinstance(category.get('name'), str):
                raise ConfigError(f'{where}: a category needs an id and a name, found {_short(category)}')
        twice = _twice(category['id'] for category in categories)
        if twice:
            names = [category['name'] for category in categories if category['id'] == twice[0]]
            raise ConfigError(
                f'{where} defines category id {twice[0]!r} {len(names)} times, as {", ".join(map(repr, names))}; give each its own '
                'id.'
            )
        twice = sorted({name for name in _twice(category['name'] for category in categories) if name in classes})
        if twice:
            raise ConfigError(
                f'{where} defines {twice} more than once; give each category a name of its own, or merge them.'
            )
        self.names = {category['id']: category['name'] for category in categories}

    def _check_images(self, where: str, outside_files: bool) -> None:
        images = self._content['images']
        for image in images:
            size = [image.get(name) for name in ('width', 'height')]
            if _no_id(image.get('id')):
                raise ConfigError(f'{where}: an image has no id: {_short(image)}. Give it one.')
            if not all(isinstance(value, (int, float)) and value > 0 for value in size):
                raise ConfigError(
                    f'{where}: image id {image["id"]!r} ({_file(image)}) is listed with width {size[0]!r} and height '
                    f'{size[1]!r}, so all its boxes would be dropped; write the size that it has when decoded.'
                )
        twice = _twice(image['id'] for image in images)
        if twice:
            files = [_file(image) for image in images if image['id'] == twice[0]]
            raise ConfigError(
                f'{where}: {len(twice)} image ids are used twice; {twice[0]!r} by {", ".join(files[:3])}. mmdet keeps one image '
                'of each id; give every image, and with it its annotations, an id of its own.'
            )
        self.images = {image['id']: (image['width'], image['height'], _file(image)) for image in images}
        for *_, name in self.images.values() if not outside_files else ():
            if name.startswith(('/', '\\')) or ('..' in name and '..' in re.split(r'[\\/]', name)):
                raise ConfigError(
                    f'{where}: file name {name!r} leads out of the folder of the images. Write names relative to it (data_prefix); '
                    'where the list is your own, outside_files=True at the top of the config allows it.'
                )

    def _check_annotations(
        self, where: str, say: Callable[[str], None], annotations: list, classes: set, masks: bool
    ) -> None:
        image_ids, category_ids = self._ids(where, annotations)
        boxes, areas = self._boxes(where, annotations)
        undefined = sorted(set(category_ids) - set(self.names), key=str)
        if undefined:
            first = annotations[category_ids.index(undefined[0])]
            defined = list(self.names)
            raise ConfigError(
                f'{where}: annotations have category ids that its `categories` do not define: {undefined[:8]} (annotation id '
                f'{first["id"]!r}; defined: {defined[:8]}{", ..." if len(defined) > 8 else ""}). Fix the annotations, or add the '
                'categories.'
            )
        image = _places(list(self.images), image_ids)
        listed = image >= 0
        sizes = np.array([size[:2] for size in self.images.values()] or [(1, 1)], float)[image]
        low, high = boxes[:, :2], boxes[:, :2] + boxes[:, 2:]
        inside = (np.minimum(high, sizes) > np.maximum(low, 0)).all(1)
        category = _places(list(self.names), category_ids)
        named = np.array([name in classes for name in self.names.values()])[category]
        ignored = np.fromiter((bool(item.get('ignore')) for item in annotations), bool, len(annotations))
        wanted = named & ~ignored
        small = (areas <= 0) | (boxes[:, 2:] < 1).any(1)
        left = wanted & listed & inside & ~small
        if masks:
            without = [i for i in np.flatnonzero(left) if not annotations[i].get('segmentation')]
            if without:
                first = annotations[without[0]]
                raise ConfigError(
                    f'{where}: {len(without)} annotations have no segmentation, which masks need; the first: annotation '
                    f'id {first["id"]!r} of image id {first["image_id"]!r}. Add them, remove these annotations, or mark them '
                    'ignore=1.'
                )
        self._say_what_is_left(where, say, annotations, wanted, listed, inside, small, left)
        reach = np.maximum(high - sizes, -low).max(1)
        beyond = left & (reach > np.maximum(REACHES, 0.01 * sizes.max(1)))
        if beyond.any():
            worst = annotations[int(np.argmax(np.where(beyond, reach, 0)))]
            corners = beyond.mean() > 0.1 and (high >= low).all()
            say(
                f'{where}: {beyond.sum()} of {wanted.sum()} boxes reach beyond their image, the farthest: annotation id '
                f'{worst["id"]!r}, {worst["bbox"]} in {self._described(worst["image_id"])}'
                + ('. Are they (x1, y1, x2, y2)? COCO has (x, y, width, height)' if corners else '')
            )
        boxes_of = np.bincount(category[left], minlength=len(self.names))
        none = [name for name, count in zip(self.names.values(), boxes_of) if not count and name in classes]
        if none:
            say(f'{where}: {len(none)} of {len(classes)} classes have no box: {some(map(repr, none), 8)}')

    def _ids(self, where: str, annotations: list) -> tuple[list, list]:
        """Ids of images and categories, one each annotation."""
        try:
            ids = [[item[name] for item in annotations] for name in ('id', 'image_id', 'category_id')]
            for part in ids:
                if None in set(part):
                    raise KeyError
        except (KeyError, TypeError):
            for item in annotations:
                for name in ('id', 'image_id', 'category_id'):
                    if _no_id(item.get(name)):
                        raise ConfigError(
                            f'{where}: annotation id {item.get("id")!r} of image id {item.get("image_id")!r} has {name} '
                            f'{item.get(name)!r}: {_short(item)}. Give it one, or remove the annotation.'
                        ) from None
            raise
        if twice := _twice(ids[0]):
            raise ConfigError(
                f'{where}: {len(twice)} annotation ids are used twice, the first {twice[0]!r}; number them anew.'
            )
        return ids[1], ids[2]

    def _boxes(self, where: str, annotations: list) -> tuple[np.ndarray, np.ndarray]:
        """Boxes (N, 4) as x, y, width, height, and areas (N,)."""
        try:
            flat = np.fromiter(chain.from_iterable(item['bbox'] for item in annotations), float)
            boxes, areas = flat.reshape(-1, 4), np.fromiter((item['area'] for item in annotations), float)
            if len(boxes) == len(annotations) and np.isfinite(boxes).all() and np.isfinite(areas).all():
                return boxes, areas
        except (KeyError, TypeError, ValueError):
            pass
        for item in annotations:
            bbox, area = item.get('bbox'), item.get('area')
            if isinstance(bbox, (list, tuple)) and len(bbox) == 4 and all(map(_finite, [*bbox, area])):
                continue
            raise ConfigError(
                f'{where}: annotation id {item["id"]!r} of image id {item["image_id"]!r} has bbox {bbox!r} and area {area!r}; '
                'mmdet needs four finite numbers (x, y, width, height) and a number. Add them, or remove the annotation.'
            )
        raise AssertionError('unreachable: some annotation has no box')

    def _say_what_is_left(self, where, say, annotations, wanted, listed, inside, small, left) -> None:
        """Warn of boxes that mmdet leaves out; refuse where those outside their image are most of them."""
        reasons = [
            (wanted & ~listed, 'of images that are not listed'),
            (wanted & listed & ~inside, 'outside their image'),
            (wanted & listed & inside & small, 'smaller than one pixel'),
        ]
        for lost, reason in reasons:
            if not lost.any():
                continue
            first = annotations[int(np.argmax(lost))]
            message = (
                f'{where}: {lost.sum()} of {wanted.sum()} boxes are {reason} and are dropped, the first: annotation id '
                f'{first["id"]!r}, {first["bbox"]} in {self._described(first["image_id"])}'
            )
            if not left.any() and reason != reasons[2][1]:
                raise ConfigError(f'{message}. No box is left. Mend ids, sizes or boxes.')
            say(message)

    def _described(self, image_id) -> str:
        width, height, name = self.images.get(image_id, (None, None, 'an image that is not listed'))
        return f'image id {image_id!r} ({name}{f", listed as {width} x {height}" if width else ""})'


_kept: dict[str, dict] = {}  # what mmdet has read, by path, until it is looked at


@contextmanager
def keeping_lists() -> Iterator[None]:
    """Keep what mmdet's data sets read meanwhile, for the checks: to read COCO's list once more takes longer than all of them."""
    own: Any = None
    if 'mmdet' in sys.modules:  # else there is no data set of its
        # without compiled ops; it prints what it can do without
        with suppress(ImportError), redirect_stdout(io.StringIO()):
            from mmdet.datasets import CocoDataset

            own = CocoDataset.COCOAPI
    if own is None:
        yield
        return

    class Kept(own):
        def __init__(self, annotation_file=None):
            super().__init__(annotation_file)
            _kept[str(annotation_file)] = self.dataset

    CocoDataset.COCOAPI = Kept
    try:
        yield
    finally:
        CocoDataset.COCOAPI = own
        _kept.clear()


def read_coco_list(path, backend_args: dict | None = None) -> CocoList | None:
    """Read an annotation file, unless it is kept; None where it is not in COCO's format."""
    if not isinstance(path, str | os.PathLike) or not str(path).lower().endswith('.json'):
        return None
    if str(path) in _kept:
        return as_coco_list(_kept.pop(str(path)), str(path))
    collected = gc.isenabled()
    gc.disable()  # it would look through millions of new objects again and again: half of the time
    try:
        content = json.loads(get(path, backend_args=backend_args))
    finally:
        if collected:
            gc.enable()
    return as_coco_list(content, str(path))


def as_coco_list(content, path: str) -> CocoList | None:
    """The list of a file that is read already; None where it is not in COCO's format."""
    if not isinstance(content, dict) or 'videos' in content:
        return None
    lists = content.get('images'), content.get('categories'), content.get('annotations', [])
    if not all(isinstance(part, list) and all(isinstance(item, dict) for item in part) for part in lists):
        return None
    return CocoList(content, path)


def _twice(values: Iterable) -> list:
    values = list(values)
    if len(set(values)) == len(values):
        return []
    return [value for value, count in Counter(values).items() if count > 1]


def _places(of: list, ids: Sequence) -> np.ndarray:
    """Index in ``of`` of each of ``ids``, -1 where it is not there; int (N,)."""
    known, wanted = (np.array(part) if part else np.zeros(0, int) for part in (of, ids))
    if known.dtype.kind != 'i' or wanted.dtype.kind != 'i' or not len(known):  # NumPy takes 1 and '1' for the same
        place = {id_: i for i, id_ in enumerate(of)}
        return np.fromiter((place.get(id_, -1) for id_ in ids), int, len(ids))
    order = np.argsort(known)
    found = order[np.searchsorted(known, wanted, sorter=order).clip(max=len(known) - 1)]
    return np.where(known[found] == wanted, found, -1)


def _no_id(value) -> bool:
    return not isinstance(value, (int, float, str))


def _finite(value) -> bool:
    return isinstance(value, (int, float)) and np.isfinite(value)


def _file(image: Mapping) -> str:
    """Name of the file of an image; LVIS has an address."""
    return str(image.get('file_name') or image.get('coco_url') or '')


def _short(item) -> str:
    text = repr(item)
    return text if len(text) <= 120 else f'{text[:117]}...'
