"""A detection data set that needs no download: real handwritten digits pasted on real photos, with exact boxes and masks.

Sources, both carried by scikit-learn: the 1,797 digits of ``load_digits`` (E. Alpaydin, C. Kaynak, Optical Recognition of
Handwritten Digits, UCI Machine Learning Repository) and the two photos of ``load_sample_images`` (CREDITS below).

Training images use the first 1,200 digits and the left two thirds of each photo; validation images use the other digits and the
right third: no digit and no pixel of a photo is on both sides. The unlabeled images come from the training side.
"""

import json
from pathlib import Path

import numpy as np
from PIL import Image

from ..errors import ConfigError
from ..utils.files import holds_set, new_folder
from .digits import digits_of

VERSION = 1  # raise it with every change that alters a written byte
CREDITS = (
    'china.jpg: danielbuechele, https://www.flickr.com/photos/danielbuechele/6061409035; '
    'flower.jpg: vultilion, https://www.flickr.com/photos/vultilion/6056698931; '
    'both CC BY 2.0, https://creativecommons.org/licenses/by/2.0/; changed: cropped, scaled, digits pasted on them'
)
CROP = (100, 213)  # side of the square cut from a photo, in its pixels; the right third holds no larger one
SIDES = (0.22, 0.55)  # side of a digit's 8x8 square, as a share of the image's side
DIGITS = 5  # most digits in an image
ANGLE = 15.0  # most rotation, degrees
INK_FROM, INK_TO = 0.3, 0.7  # value of a digit (0 paper, 1 ink) where the ink begins, and where it covers wholly
ALPHA = (0.8, 1.0)  # opacity of the ink
CONTRAST = 40.0  # of 255: how far in gray value the ink is from three quarters of the pixels around it
VISIBLE = 0.6  # least share of a digit's pixels that the digits above it leave visible
TRIES = 20  # places tried for one digit
GRAY = np.array([0.299, 0.587, 0.114])  # weights of red, green and blue in a gray value


def write_digits_on_photos(
    out_dir: str | Path, train: int = 800, val: int = 200, unlabelled: int = 800, size: int = 160, seed: int = 0
) -> bool:
    """Write the data set as PNG files and COCO annotations; does nothing where it is there already.

    The folder then holds ``train/``, ``val/`` and ``unlabelled/`` with ``000000.png`` and so on, ``annotations/train.json`` and
    ``annotations/val.json``, and ``info.json`` with the parameters. Categories 1 to 10 are named '0' to '9'; the id of an image
    is the number in its file name; a segmentation is a compressed RLE of the visible pixels, a box ``[x, y, w, h]`` is tight
    around them and ``area`` is their number. The same parameters give the same bytes with the same numpy, Pillow and
    scikit-learn; image i depends on the seed, the size, the split and i, not on how many images there are.

    Args:
        out_dir: Appears once all is written; until then the files are in ``<out_dir>.part``, removed first where left over.
        train, val, unlabelled: Numbers of images; the first two at least 1, the last may be 0.
        size: Height and width of the images in pixels, at least 64.
        seed: A whole number from 0.

    Returns:
        Whether the data set was written; False: the same is there already.

    Raises:
        ConfigError: A parameter is out of its range, or ``out_dir`` holds something else.
    """
    counts = dict(train=train, val=val, unlabelled=unlabelled)
    info = dict(name='digits_on_photos', version=VERSION, **counts, size=size, seed=seed)
    for name, least in dict(train=1, val=1, unlabelled=0, size=64, seed=0).items():
        if info[name] < least:
            raise ConfigError(f'digits_on_photos: {name} must be at least {least}, found {info[name]}')
    folder = Path(out_dir).resolve()
    if holds_set(folder, info):
        return False
    with new_folder(folder) as part:
        (part / 'annotations').mkdir()
        categories = [dict(id=digit + 1, name=str(digit)) for digit in range(10)]
        for place, (split, count) in enumerate(counts.items()):
            (part / split).mkdir()
            sources = load_sources('val' if split == 'val' else 'train')
            images: list[dict] = []
            annotations: list[dict] = []
            for index in range(count):
                rng = np.random.default_rng(np.random.SeedSequence([seed, place, index]))
                pixels, labels, masks = draw_scene(rng, *sources, size)
                images.append(dict(id=index, file_name=f'{index:06}.png', height=size, width=size))
                Image.fromarray(pixels).save(part / split / images[-1]['file_name'])
                for label, mask in zip(labels, masks):  # ids from 1: to COCOeval a match with annotation 0 is no match
                    annotations.append(dict(_annotation(label, mask), id=len(annotations) + 1, image_id=index))
            if split != 'unlabelled':
                coco = dict(images=images, annotations=annotations, categories=categories)
                _write_json(part / f'annotations/{split}.json', dict(coco, info=dict(description=CREDITS)))
        _write_json(part / 'info.json', dict(info, credits=CREDITS))
    return True


def load_sources(side: str) -> tuple[list[np.ndarray], np.ndarray, np.ndarray]:
    """Load the photos and digits of one side of the split, ``'train'`` or ``'val'``.

    Returns:
        Two photos, uint8 (427, 426, 3) for 'train' and (427, 214, 3) for 'val', red first; digits, uint8 (N, 8, 8), 0 paper to
        255 ink; their labels, (N,), 0 to 9.
    """
    from sklearn.datasets import load_sample_images  # takes a second: only where the data set is written

    photos = load_sample_images().images
    cuts = [photo.shape[1] * 2 // 3 for photo in photos]
    photos = [photo[:, :cut] if side == 'train' else photo[:, cut:] for photo, cut in zip(photos, cuts)]
    return photos, *digits_of(side)


def draw_scene(
    rng: np.random.Generator, photos: list[np.ndarray], digits: np.ndarray, labels: np.ndarray, size: int
) -> tuple[np.ndarray, list[int], list[np.ndarray]]:
    """Draw an image with 1 to 5 digits, from sources as ``load_sources`` returns them.

    Returns:
        The image, uint8 (size, size, 3), red first; the label of each digit, 0 to 9, the lowest digit first; for each digit its
        visible pixels, bool (size, size): where its ink covers more than half and that of no later digit does.
    """
    canvas = _background(rng, photos, size)
    owner = np.full((size, size), -1)  # the digit that a pixel shows, -1: the photo
    found: list[int] = []  # labels
    pixels: list[int] = []  # how many each has before other digits cover them
    for _ in range(rng.integers(1, DIGITS, endpoint=True)):
        pick = rng.integers(len(digits))
        side = size * np.exp(rng.uniform(*np.log(SIDES)))  # evenly in its logarithm: as many small ones as large ones
        coverage = _glyph(digits[pick], side, rng.uniform(-ANGLE, ANGLE))
        mask = coverage > 0.5
        for _ in range(TRIES):
            y, x = (rng.integers(size - length + 1) for length in coverage.shape)
            place = np.s_[y : y + coverage.shape[0], x : x + coverage.shape[1]]
            trial = owner.copy()
            trial[place][mask] = len(found)
            visible = np.bincount(trial.ravel() + 1, minlength=len(found) + 2)[1:]
            if (visible >= VISIBLE * np.array([*pixels, mask.sum()])).all():
                canvas[place] = _paint(rng, canvas[place], coverage)
                owner = trial
                found.append(int(labels[pick]))
                pixels.append(mask.sum())
                break
    return np.round(canvas).astype(np.uint8), found, [owner == number for number in range(len(found))]


def _background(rng: np.random.Generator, photos: list[np.ndarray], size: int) -> np.ndarray:
    """A square of a photo, flipped or not, at random brightness: float (size, size, 3), 0 to 255."""
    photo = photos[rng.integers(len(photos))]
    side = rng.integers(*CROP, endpoint=True)
    y, x = (rng.integers(length - side + 1) for length in photo.shape[:2])
    crop = photo[y : y + side, x : x + side]
    image = Image.fromarray(crop[:, ::-1] if rng.integers(2) else crop)
    return np.clip(np.asarray(image.resize((size, size), Image.Resampling.BICUBIC)) * rng.uniform(0.6, 1.3), 0, 255)


def _glyph(digit: np.ndarray, side: float, angle: float) -> np.ndarray:
    """The ink of a digit (8, 8), scaled to ``side`` pixels and rotated: float (H, W), 0 to 1, without empty borders."""
    length = round(side * 10 / 8)
    large = Image.fromarray(np.pad(digit, 1)).resize((length, length), Image.Resampling.BICUBIC)  # strokes end inside
    value = np.asarray(large.rotate(angle, Image.Resampling.BICUBIC, expand=True)) / 255
    coverage = np.clip((value - INK_FROM) / (INK_TO - INK_FROM), 0, 1)  # strokes with an edge, not a blur
    rows, columns = np.flatnonzero(coverage.any(1)), np.flatnonzero(coverage.any(0))
    return coverage[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def _paint(rng: np.random.Generator, patch: np.ndarray, coverage: np.ndarray) -> np.ndarray:
    """``patch`` (H, W, 3) with ink where ``coverage`` (H, W) says, in a random color that stands out from the patch."""
    alpha = rng.uniform(*ALPHA)
    inks = rng.uniform(0, 255, (64, 3))
    values = (inks @ GRAY)[:, None]
    inks = values + rng.uniform(0, 1, (64, 1)) * (inks - values)  # paler: a vivid color would give a digit away
    away = alpha * np.abs((patch @ GRAY).ravel() - values)
    contrast = np.quantile(away, 0.25, axis=1)  # by the mean, gray ink half on black and half on white would pass
    ink = inks[np.argmax(contrast >= CONTRAST) if (contrast >= CONTRAST).any() else contrast.argmax()]
    return patch + alpha * coverage[..., None] * (ink - patch)


def _annotation(label: int, mask: np.ndarray) -> dict:
    """Make the COCO annotation of a digit from its label, 0 to 9, and its visible pixels, bool (H, W)."""
    from pycocotools import mask as coding

    rle = coding.encode(np.asfortranarray(mask, dtype=np.uint8))
    segmentation = dict(size=list(mask.shape), counts=rle['counts'].decode('ascii'))  # JSON takes no bytes
    box = coding.toBbox(rle).tolist()
    return dict(category_id=label + 1, bbox=box, area=int(mask.sum()), iscrowd=0, segmentation=segmentation)


def _write_json(path: Path, content: dict) -> None:
    path.write_text(json.dumps(content, sort_keys=True, separators=(',', ':')) + '\n')
