"""The pictures of an IJB-A-shaped set: faces of a folder of identities on larger canvases, as photos and as frames of videos."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ....errors import ConfigError
from .files import file_fault
from .images import SUFFIXES

LEAST = 4  # images that a person needs: two photos and a video of two frames
VIDEO = (2, 3)  # least and most frames of a video
GROUPS = 2  # photos that show two people, each with a SIGHTING_ID of its own
ENDINGS = ('.JPG', '.JPEG', '.png')  # of the first photos on disk, which the lists all call .jpg
UPPER = 0.05  # share of the other photos that end in .JPG
COMPLETE, EMPTY = (
    0.55,
    0.01,
)  # share of faces with all of the eyes and the nose, and with none of them (face.md, measured)
# where the points are in the box, in shares of its width and height
POINTS = dict(RIGHT_EYE=(0.33, 0.44), LEFT_EYE=(0.67, 0.44), NOSE_BASE=(0.5, 0.64))


def find_people(folder: str | Path) -> tuple[dict[str, list[Path]], list[str]]:
    """The images of each person with at least ``LEAST`` of them, from a folder with one sub-folder a person; and who has too few.

    Raises:
        ConfigError: No such folder, or fewer than six people.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ConfigError(
            f'no folder {str(folder)!r} in {Path.cwd()}; it must have one sub-folder of images for each person'
        )
    people, few = {}, []
    for person in sorted(entry for entry in folder.iterdir() if entry.is_dir()):
        images = sorted(file for file in person.rglob('*') if file.suffix.lower() in SUFFIXES and file.is_file())
        if len(images) < LEAST:
            few.append(person.name)
        else:
            people[person.name] = images
    if len(people) < 6:
        raise ConfigError(
            f'{str(folder)!r} has {len(people)} sub-folders with at least {LEAST} images ({len(few)} with fewer); six are needed, '
            'one for each person'
        )
    return people, few


def draw_pictures(
    rng: np.random.Generator, people: Sequence[Sequence[Path]], out: Path
) -> list[dict[int, list[dict[str, str]]]]:
    """Write ``out/img/*.jpg`` and ``out/frame/*.png``.

    Each source image becomes one face. Half of a person's are photos, each a medium of its own, the rest frames of videos.

    Returns:
        For each person, by MEDIA_ID, the faces: what the columns of the lists say of them, but for the template.
    """
    import cv2

    for name in ('img', 'frame'):
        (out / name).mkdir(parents=True)
    found: list[dict] = [{} for _ in people]
    sighting, photos = int(rng.integers(1000, 2000)), 0
    for medium, frame, faces in _plan(rng, people):
        canvas, boxes = _canvas(rng, [_read(path) for _, path in faces])
        if frame is None:
            file, ending = f'img/{medium}.jpg', '.jpg'
            if photos < len(ENDINGS):
                ending = ENDINGS[photos]
            elif rng.random() < UPPER:
                ending = '.JPG'
            photos += 1
        else:
            file, ending = f'frame/{medium}_{frame:05d}.png', '.png'
        data = cv2.imencode(ending, canvas, [cv2.IMWRITE_JPEG_QUALITY, 95])[1]
        (out / file).with_suffix(ending).write_bytes(data.tobytes())
        for (person, _), box in zip(faces, boxes):
            sighting += 1
            row = dict(FILE=file, MEDIA_ID=str(medium), SIGHTING_ID=str(sighting), **_box_and_points(rng, box))
            row['FRAME'] = '' if frame is None else str(frame)
            found[person].setdefault(medium, []).append(row)
    return found


def _plan(rng: np.random.Generator, people: Sequence[Sequence[Path]]) -> list[tuple[int, int | None, list]]:
    """Pictures as (medium, number of the frame or None, people and source images on it)."""
    pictures: list[tuple[int, int | None, list]] = []
    medium, shared = int(rng.integers(100, 1000)), []
    for person, paths in enumerate(people):
        faces = [(person, paths[place]) for place in rng.permutation(len(paths))]
        half = len(faces) // 2
        photos, frames = faces[:half], faces[half:]
        if person < 2 * GROUPS:
            shared.append(photos.pop())
            if len(shared) == 2:
                pictures.append((medium, None, shared))
                medium, shared = medium + int(rng.integers(1, 9)), []
        for face in photos:
            pictures.append((medium, None, [face]))
            medium += int(rng.integers(1, 9))
        while frames:
            length = len(frames) if len(frames) <= VIDEO[1] else int(rng.integers(*VIDEO, endpoint=True))
            length -= len(frames) - length == 1 and length > VIDEO[0]  # no video of one frame where it can be helped
            start = int(rng.integers(1, 400))
            pictures.extend((medium, start + 3 * place, [face]) for place, face in enumerate(frames[:length]))
            frames, medium = frames[length:], medium + int(rng.integers(1, 9))
    return pictures


def _read(path: Path) -> np.ndarray:
    import cv2

    image = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_COLOR) if os.path.getsize(path) else None
    if image is None:
        reason = file_fault(path) or 'it is none, or damaged'
        raise ConfigError(f'{str(path)!r} cannot be decoded as an image ({reason}); fix or remove it')
    return image


def _canvas(rng: np.random.Generator, images: list[np.ndarray]) -> tuple[np.ndarray, list[tuple[int, int, int, int]]]:
    """Images side by side on a smooth ground, uint8 (H, W, 3), and where they are: x, y, width, height."""
    import cv2

    height = round(max(len(image) for image in images) * 1.5)
    widths = [round(image.shape[1] * 1.7) for image in images]
    ground = rng.uniform(40, 200, (2, 2, 3)).astype(np.float32)
    canvas = cv2.resize(ground, (sum(widths), height), interpolation=cv2.INTER_LINEAR).astype(np.uint8)
    boxes, left = [], 0
    for image, width in zip(images, widths):
        tall, wide = image.shape[:2]
        x, y = left + int(rng.integers(width - wide + 1)), int(rng.integers(height - tall + 1))
        canvas[y : y + tall, x : x + wide] = image
        boxes.append((x, y, wide, tall))
        left += width
    return canvas, boxes


def _box_and_points(rng: np.random.Generator, box: tuple[int, int, int, int]) -> dict[str, str]:
    row = dict(zip(('FACE_X', 'FACE_Y', 'FACE_WIDTH', 'FACE_HEIGHT'), map(str, box)))
    luck = rng.random()
    if luck < COMPLETE:
        absent = []
    elif luck < COMPLETE + EMPTY:
        absent = list(POINTS)
    else:
        absent = rng.choice(list(POINTS), rng.integers(1, len(POINTS)), replace=False).tolist()
    for name, (x, y) in POINTS.items():
        there = name not in absent
        row[f'{name}_X'] = str(round(box[0] + x * box[2])) if there else ''
        row[f'{name}_Y'] = str(round(box[1] + y * box[3])) if there else ''
    return row
