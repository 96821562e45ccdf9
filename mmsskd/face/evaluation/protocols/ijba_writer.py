"""An IJB-A-shaped set from any folder of identities: NIST stopped distributing IJB-A, and its layout is worth having for faces of
one's own, for tests and for demonstrations. Nothing of NIST's is in it.
"""

import hashlib
import json
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

import numpy as np

from ....errors import ConfigError
from ....utils.files import holds_set, new_folder
from .ijba_pictures import draw_pictures, find_people

VERSION = 2  # raise it with every change that alters a written byte
COLUMNS = (
    'TEMPLATE_ID', 'SUBJECT_ID', 'FILE', 'MEDIA_ID', 'SIGHTING_ID', 'FRAME', 'FACE_X', 'FACE_Y', 'FACE_WIDTH',
    'FACE_HEIGHT', 'RIGHT_EYE_X', 'RIGHT_EYE_Y', 'LEFT_EYE_X', 'LEFT_EYE_Y', 'NOSE_BASE_X', 'NOSE_BASE_Y',
    'FACE_YAW', 'FOREHEAD_VISIBLE', 'EYES_VISIBLE', 'NOSE_MOUTH_VISIBLE', 'INDOOR', 'GENDER', 'SKIN_TONE', 'AGE',
    'FACIAL_HAIR',
)  # fmt: skip
NUMBERS = ('FACE_X', 'FACE_Y', 'FACE_WIDTH', 'FACE_HEIGHT')  # written now as 328, now as 328.0
# digits after the point of the boxes that are no whole pixels, in splits 3, 6, 9, in 1, 4, 7, 10, and in 2, 5, 8
DECIMALS = (13, 8, 6)
UNENROLLED = (2, 3, 9)  # splits in which one subject has probes and no enrol template, as subject 2461 of IJB-A
PROBES = 6  # most probes of a person of two media; as many are single images
Template = list[dict[str, str]]  # rows


def write_ijba_shaped(
    folder: str | Path,
    out_dir: str | Path,
    splits: int = 10,
    seed: int = 0,
    test_share: float = 2 / 3,
    impostors: int = 10000,
    missing: int = 0,
) -> bool:
    """Write a set in the layout of IJB-A (see ``read_ijba``) from a folder with one sub-folder of images for each person.

    Every image becomes one face on a larger canvas, with its box: half of a person's are photos, the rest frames of videos. In each
    split other people are for testing, the rest for training. 1:1: one enrol template a subject; about half of the probe templates
    are single images; all genuine pairs, and impostor pairs up to ``impostors``. 1:N: a third of the test subjects are not in the
    gallery, all probes are searched. The set has the peculiarities of the original: header lines end in CR LF, rows in LF, lists of
    pairs in CR LF; TEMPLATE_IDs begin anew in each split and list; some files on disk end in .JPG, .JPEG or .png where the lists
    say .jpg; two photos show two people; a box is written 328 or 328.0, and that of about every third face has fractions, with
    other digits in different splits (93.00571429 and 93.0057142857143); points of eyes and nose are incomplete; in splits 2, 3 and
    9 one subject has probes and no enrol template. People with fewer than four images are left out.

    Args:
        folder: At least six people with four images each.
        out_dir: Appears once all is written, with ``info.json``; until then the files are in ``<out_dir>.part``.
        splits: How many, 1 to 99.
        seed: A whole number from 0; the same seed, images and options give the same bytes with the same numpy and OpenCV.
        test_share: Share of the people that a split tests, more than 0, less than 1; at least three, and one is left to train.
        impostors: Most impostor pairs in a split, at least 1.
        missing: Number of image files to remove in the end, as if the copy were incomplete.

    Returns:
        Whether the set was written; False: the same is there already.

    Raises:
        ConfigError: An argument is out of its range, there are too few people, an image cannot be decoded, or ``out_dir`` holds
            something else.
    """
    for name, value, low, high in (
        ('splits', splits, 1, 99),
        ('seed', seed, 0, None),
        ('impostors', impostors, 1, None),
        ('missing', missing, 0, None),
    ):
        if value < low or (high is not None and value > high):
            allowed = f'{low} to {high}' if high is not None else f'at least {low}'
            raise ConfigError(f'ijba_shaped: {name} must be {allowed}, found {value}')
    if not 0 < test_share < 1:
        raise ConfigError(f'ijba_shaped: test_share must be more than 0 and less than 1, found {test_share}')
    people, few = find_people(folder)
    options = dict(splits=splits, seed=seed, test_share=test_share, impostors=impostors, missing=missing)
    info = dict(name='ijba_shaped', version=VERSION, **options, source_sha256=_digest(people))
    out = Path(out_dir).resolve()
    if holds_set(out, info):
        return False
    with new_folder(out) as part:
        rng = np.random.default_rng(seed)
        faces = draw_pictures(rng, list(people.values()), part / 'images')
        _describe(rng, faces)
        tested = min(max(round(test_share * len(faces)), 3), len(faces) - 1)
        counts = {}
        for number in range(1, splits + 1):
            counts[f'split{number}'] = _write_split(
                part, np.random.default_rng([seed, number]), number, faces, tested, impostors
            )
        files = sorted(file for file in (part / 'images').rglob('*') if file.is_file())
        if missing > len(files):
            raise ConfigError(
                f'ijba_shaped: missing must be at most the number of files, {len(files)}, found {missing}'
            )
        removed = [files[place] for place in sorted(rng.choice(len(files), missing, replace=False))]
        for file in removed:
            file.unlink()
        info.update(people=len(people), too_few_images=few, removed=[str(file.relative_to(part)) for file in removed])
        (part / 'info.json').write_text(json.dumps(dict(info, counts=counts), indent=1) + '\n')
    return True


def _describe(rng: np.random.Generator, faces: Sequence[dict]) -> None:
    """Add who it is to the faces of each person, and what the lists say of a face besides."""
    subjects = rng.choice(np.arange(1, 5000), len(faces), replace=False).tolist()
    for subject, media in zip(subjects, faces):
        person = dict(SUBJECT_ID=str(subject), GENDER=str(rng.integers(2)), SKIN_TONE=str(rng.integers(1, 7)))
        for row in (row for rows in media.values() for row in rows):
            row.update(person, FACE_YAW=f'{rng.uniform(-60, 60):.2f}', AGE=str(rng.integers(6)))
            row['FACIAL_HAIR'] = str(rng.integers(4))
            for name in ('FOREHEAD_VISIBLE', 'EYES_VISIBLE', 'NOSE_MOUTH_VISIBLE', 'INDOOR'):
                row[name] = str(rng.integers(2))


def _write_split(
    part: Path, rng: np.random.Generator, number: int, faces: Sequence[dict], tested: int, impostors: int
) -> dict[str, int]:
    """Write the six lists of a split; returns how much is in them."""
    order = rng.permutation(len(faces))
    if number in UNENROLLED:  # the last person is tested in these
        order = np.concatenate([[len(faces) - 1], order[order != len(faces) - 1]])
    test, train = order[:tested], order[tested:]
    training = [[row for rows in faces[person].values() for row in rows] for person in sorted(train)]
    drawn = [_person_templates(rng, faces[person]) for person in test]
    alone = number in UNENROLLED  # then the first of `test` is not enrolled
    enrol = [first for first, _ in drawn[alone:]]
    probes = [probe for _, rest in drawn for probe in rest]
    searched = [_person_templates(rng, faces[person]) for person in test]
    gallery = [first for first, _ in searched[max(1, round(tested / 3)) :]]
    searches = [probe for _, rest in searched for probe in rest]
    one, many = (part / f'IJB-A_{task}_sets' / f'split{number}' for task in ('11', '1N'))
    for folder in (one, many):
        folder.mkdir(parents=True)
        _write_list(rng, folder / f'train_{number}.csv', training, number)
    ids = _write_list(rng, one / f'verify_metadata_{number}.csv', enrol + probes, number)
    pairs = _pairs(rng, enrol, probes, impostors)
    lines = [f'{ids[first]},{ids[len(enrol) + second]}' for first, second in pairs]
    (one / f'verify_comparisons_{number}.csv').write_bytes('\r\n'.join([*lines, '']).encode())
    ids = rng.permutation(np.arange(1, 2 * (len(gallery) + len(searches)))).tolist()
    _write_list(rng, many / f'search_gallery_{number}.csv', gallery, number, ids)
    _write_list(rng, many / f'search_probe_{number}.csv', searches, number, ids[len(gallery) :])
    genuine = sum(_subject(enrol[first]) == _subject(probes[second]) for first, second in pairs)
    return dict(
        rows=sum(map(len, enrol + probes)), templates=len(enrol + probes), pairs=len(pairs), genuine=genuine,
        gallery=len(gallery), probes=len(searches),
    )  # fmt: skip


def _person_templates(rng: np.random.Generator, media: dict[int, list[dict]]) -> tuple[Template, list[Template]]:
    """A template to enrol, of up to three media, and probes of the others: pairs of media, and as many single images."""
    numbers = rng.permutation(sorted(media)).tolist()
    count = min(3, max(1, len(numbers) // 2))
    first, rest = numbers[:count], numbers[count:]
    couples = list(combinations(rest, 2))
    couples = [couples[place] for place in rng.permutation(len(couples))[:PROBES]]
    images = [row for number in rest for row in media[number]]
    single = rng.permutation(len(images))[: max(1, len(couples))]
    probes = [[images[place]] for place in single] + [media[a] + media[b] for a, b in couples]
    return [row for number in first for row in media[number]], probes


def _pairs(rng: np.random.Generator, enrol: Sequence[Template], probes: Sequence[Template], most: int) -> list:
    """Enrol and probe templates to compare, in random order: all of one subject, of two subjects at most ``most``."""
    same = np.equal.outer([_subject(one) for one in enrol], [_subject(one) for one in probes])
    genuine, other = np.argwhere(same), np.argwhere(~same)
    other = other[rng.permutation(len(other))[:most]]
    return rng.permutation(np.concatenate([genuine, other])).tolist()


def _subject(template: Template) -> str:
    return template[0]['SUBJECT_ID']


def _write_list(
    rng: np.random.Generator, path: Path, templates: Sequence[Template], split: int, ids: list[int] | None = None
) -> list[int]:
    """Write the rows of templates into a list of a split; returns their TEMPLATE_IDs."""
    ids = ((rng.permutation(2 * len(templates)) + 1).tolist() if ids is None else ids)[: len(templates)]
    text = ','.join(COLUMNS) + '\r\n'
    for number, template in zip(ids, templates):
        for row in template:
            ending = '.0' if rng.integers(2) else ''
            sighting = int(row['SIGHTING_ID'])
            written = {name: row[name] + ending for name in NUMBERS}
            if sighting % 3 == 0:  # some sevenths of a hundredth of a pixel: what is cut out stays the same
                places = DECIMALS[split % len(DECIMALS)]
                written = {name: f'{int(row[name]) + (1 + sighting % 6) / 700:.{places}f}' for name in NUMBERS}
            text += ','.join({**row, **written, 'TEMPLATE_ID': str(number)}[name] for name in COLUMNS) + '\n'
    path.write_bytes(text.encode())
    return ids


def _digest(people: dict[str, list[Path]]) -> str:
    """Changes with every image and every name of a person."""
    digest = hashlib.sha256()
    for name, paths in people.items():
        for path in paths:
            digest.update(f'{name}\n'.encode() + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()
