"""RecordIO files made from folders of faces, and folders made from them."""

import os
import warnings
from pathlib import Path

import cv2
import numpy as np

from ...datasets.unlabelled_images import SUFFIXES
from ...errors import ConfigError
from ...utils.files import new_folder, write_text
from ...utils.folders import describe_left_out, walk_files
from .alignment import crop_box
from .decoding import decode
from .record_labels import NO_IMAGE, load_labels
from .recordio import RecordReader, RecordWriter, pack

ENCODED = {b'\xff\xd8\xff': '.jpg', b'\x89PNG': '.png'}  # what a record's image may be, by its first bytes


def folder_to_records(folder: str | Path, prefix: str | Path, size: int = 112, quality: int = 95) -> tuple[int, int]:
    """Write ``<prefix>.rec``, ``<prefix>.idx`` and ``property`` beside them, as InsightFace's ``face2rec2.py`` does.

    People are numbered by the sorted names of their folders; images lie at any depth below. Links are followed, but each real
    folder is taken once; what is left out is warned of. Records: the images, keys 1 to N,
    labels (person, 1); the header, key 0, labels (N + 1, N + 1 + people); a record a person, labels (first key, last key + 1).
    JPEG and PNG files of the size asked for are taken as they are; others are scaled by their longer side, with black borders
    where they are no squares, and written as JPEG.

    Args:
        folder: One folder for each person; hidden ones, and people without an image, are left out.
        prefix: For instance ``data/mine/train``.
        size: Height and width of the faces in pixels.
        quality: Of JPEG, 1 to 100.

    Returns:
        Numbers of people and of images.

    Raises:
        ConfigError: No such folder, no image, or a file that cannot be decoded or claims too many pixels; then nothing is written.
    """
    folder, rec = Path(folder), Path(f'{prefix}.rec')
    if not 1 <= quality <= 100 or size < 1:
        raise ConfigError(f'quality must be 1 to 100 and size at least 1, found {quality} and {size}')
    if not folder.is_dir():
        raise ConfigError(f'no folder {str(folder)!r} in {Path.cwd()}')
    people = _people(folder)
    if not people:
        raise ConfigError(
            f'{str(folder)!r} must hold a folder for each person, with images ({", ".join(SUFFIXES)}); found none'
        )
    key, ranges = 1, []
    with RecordWriter(rec) as writer:
        for label, files in enumerate(people):
            ranges.append((key, key + len(files)))
            for file in files:
                writer.write(key, pack((label, 1), _encode(file, size, quality), key))
                key += 1
        writer.write(0, pack((key, key + len(people))))
        for number, span in enumerate(ranges, key):
            writer.write(number, pack(span, key=number))
    write_text(rec.with_name('property'), f'{len(people)},{size},{size}\n')
    return len(people), key - 1


def records_to_folder(rec: str | Path, out_dir: str | Path) -> tuple[int, int]:
    """Write every image of a RecordIO file, its bytes as they are, to ``<out_dir>/<person>/<key>.jpg`` or ``.png``.

    Numbers of people have leading zeros, so that the order of the folders is theirs.

    Returns:
        Numbers of people and of images.

    Raises:
        ConfigError: ``out_dir`` holds something, a record is damaged, or its image is neither JPEG nor PNG; then nothing is
            written.
    """
    reader = RecordReader(rec)
    labels, _ = load_labels(reader)
    places = np.flatnonzero(labels != NO_IMAGE)
    digits = len(str(labels.max()))
    with new_folder(out_dir) as folder:
        for label in np.unique(labels[places]):
            (folder / f'{label:0{digits}}').mkdir()
        for place in places:
            image = reader.read_image(place).tobytes()
            suffix = next((suffix for begin, suffix in ENCODED.items() if image.startswith(begin)), None)
            if suffix is None:
                raise ConfigError(f'{reader.where(place)}: neither JPEG nor PNG, but {image[:8].hex(" ")} ...')
            (folder / f'{labels[place]:0{digits}}' / f'{reader.keys[place]}{suffix}').write_bytes(image)
    return len(np.unique(labels[places])), len(places)


def _people(folder: Path) -> list[list[str]]:
    """The image files below each person's folder, sorted; people without one, and hidden folders, are left out."""
    persons = sorted(person for person in folder.iterdir() if person.is_dir() and not person.name.startswith('.'))
    found, left_out = walk_files(persons)
    if left_out:
        warnings.warn(f'{str(folder)!r}: {describe_left_out(left_out)}', stacklevel=3)
    wanted = [
        [file for file in files if file.lower().endswith(SUFFIXES) and not os.path.basename(file).startswith('.')]
        for files in found
    ]
    return [files for files in wanted if files]


def _encode(file: str, size: int, quality: int) -> bytes:
    content = Path(file).read_bytes()
    image = decode(content, repr(file))
    if image is None:
        raise ConfigError(f'{file!r} cannot be decoded; fix or remove it')
    if image.shape[:2] == (size, size) and content.startswith(tuple(ENCODED)):
        return content
    image = crop_box(image, (0, 0, image.shape[1], image.shape[0]), 1, (size, size), antialias=True)
    return cv2.imencode('.jpg', image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()
