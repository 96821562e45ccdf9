"""IJB-C in the layout in which NIST distributed it; IJB-B where it is laid out alike."""

from pathlib import Path

from ....errors import ConfigError, candidates
from ..protocol import Identification, Split, TemplateProtocol
from .comparisons import read_comparisons
from .face_rows import BOX, FaceRows
from .files import existing
from .images import image_root


def read_ijbc(
    root: str | Path,
    landmarks: str | Path | None = None,
    images: str | Path | None = None,
    test: str = 'test1',
    name: str = 'IJB-C',
    allow_outside: bool = False,
) -> TemplateProtocol:
    """IJB-C (B. Maze et al., IARPA Janus Benchmark - C: Face Dataset and Protocol, ICB 2018) from a copy of one's own.

    ``root`` holds ``images/`` (or ``img/`` and ``frames/``) and ``protocols/``: for 1:1 ``test1/`` or ``test2/`` with
    ``enroll_templates.csv``, ``verif_templates.csv`` and ``match.csv``, for 1:N ``test4/`` with ``gallery_G1.csv``,
    ``gallery_G2.csv`` and ``probes.csv``; either may be absent. Columns are read by name: TEMPLATE_ID, SUBJECT_ID, FILENAME, the
    box, and, where they are there, SIGHTING_ID and MEDIA_ID. Without the former a face is a file and a box, without the latter
    the frames of a video, whose names differ only in the number after the last ``_``, are one medium.

    Args:
        root: The folder of the copy.
        landmarks: CSV file of five points for each face (see ``read_landmarks``); None: ``root/landmarks.csv`` where there is one.
        images: The folder that FILENAMEs are below, where it is none of the above.
        test: Which 1:1 list, ``'test1'`` or ``'test2'``.
        name: What the numbers are called, for instance ``'IJB-B'``.
        allow_outside: FILENAME may be absolute or have ``..`` in it.

    Returns:
        The protocol, of one split; galleries ``'G1'`` and ``'G2'``, each searched with all probes.

    Raises:
        ConfigError: Neither task is there, a file is missing, or a file contradicts itself or another.
    """
    root = Path(root)
    protocols = root / 'protocols'
    verify, search = protocols / test, protocols / 'test4'
    if test not in ('test1', 'test2'):
        raise ConfigError(f"{name}: test must be 'test1' or 'test2', found {test!r}")
    if not verify.is_dir() and not search.is_dir():
        near = sorted(entry.name for entry in (protocols if protocols.is_dir() else root.parent).glob('*'))
        raise ConfigError(
            f'{name}: neither {str(verify)!r} nor {str(search)!r} is there in {Path.cwd()}; {candidates(root.name, near)}'
        )
    folder = image_root(root, images, ('img', 'frames', 'frame'))
    rows, verification, identification = FaceRows('FILENAME', BOX), None, tuple[Identification, ...]()
    if verify.is_dir():
        files = [existing(verify / f'{kind}.csv') for kind in ('enroll_templates', 'verif_templates', 'match')]
        verification = read_comparisons(files[2], rows.read(files[:2]))
    if search.is_dir():
        probes = rows.read([existing(search / 'probes.csv')])
        identification = tuple(
            Identification(gallery, rows.read([existing(search / f'gallery_{gallery}.csv')]), probes)
            for gallery in ('G1', 'G2')
        )
    if landmarks is None and (root / 'landmarks.csv').exists():
        landmarks = root / 'landmarks.csv'
    split = Split('', verification, identification)
    return TemplateProtocol(name, rows.faces(folder, landmarks, allow_outside), (split,), folder)
