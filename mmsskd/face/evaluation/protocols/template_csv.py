"""Templates of one's own."""

from pathlib import Path

import numpy as np

from ....errors import ConfigError
from ..protocol import Identification, Split, TemplateProtocol, Templates
from .comparisons import read_comparisons, unknown_template
from .csv_rows import Columns
from .face_rows import FaceRows, select


def read_templates(
    metadata: str | Path,
    pairs: str | Path | None = None,
    gallery: str | Path | None = None,
    probes: str | Path | None = None,
    root: str | Path | None = None,
    landmarks: str | Path | None = None,
    name: str | None = None,
    allow_outside: bool = False,
) -> TemplateProtocol:
    """A template protocol of one's own from CSV files: 1:1 where ``pairs`` is given, 1:N where ``gallery`` and ``probes`` are.

    ``metadata.csv``, one row for each face in each template; ids are any text, columns may be in any order::

        TEMPLATE_ID,SUBJECT_ID,FILE,MEDIA_ID,SIGHTING_ID,FACE_X,FACE_Y,FACE_WIDTH,FACE_HEIGHT
        t1,ann,photos/ann_1.jpg,photo1,1,40,32,90,110
        t1,ann,videos/7/0001.jpg,video7,1,12,30,60,75
        t1,ann,videos/7/0002.jpg,video7,1,12,31,60,75
        t2,bob,photos/party.jpg,photo2,1,10,20,50,60
        t3,ann,photos/party.jpg,photo2,2,210,25,50,60

    Needed are TEMPLATE_ID, SUBJECT_ID, FILE and MEDIA_ID (equal for what was taken at one moment: the frames of one video);
    SIGHTING_ID tells the faces of one file apart; the box (pixels, from the upper left corner) is needed where images are not
    crops of one face; ``x1,y1,...,x5,y5`` are five landmarks in the order of ``Faces.landmarks``, ``score`` how sure the detector
    was. A row that is there twice counts twice.

    ``pairs.csv``, without header: ``t1,t2`` a row, two TEMPLATE_IDs. ``gallery.csv`` and ``probes.csv``, with header: a column
    TEMPLATE_ID; other columns are ignored. A pair is genuine, and a probe has a mate, where the SUBJECT_IDs are equal.

    Args:
        metadata, pairs, gallery, probes: The files.
        root: The folder that FILEs are below; None: the folder of ``metadata``.
        landmarks: CSV file of five points for each face (see ``read_landmarks``), instead of those in ``metadata``.
        name: What the numbers are called; None: the name of ``metadata`` without its ending.
        allow_outside: FILE may be absolute or have ``..`` in it.

    Returns:
        The protocol, of one split.

    Raises:
        ConfigError: Neither task is given, or a file is wrong; the message names file, row and column.
    """
    metadata = Path(metadata)
    if pairs is None and gallery is None and probes is None:
        raise ConfigError(f'{metadata}: give pairs for 1:1, or gallery and probes for 1:N, or all three')
    if (gallery is None) != (probes is None):
        raise ConfigError(f'{metadata}: {"gallery" if gallery is None else "probes"} is missing; 1:N needs both')
    rows = FaceRows('FILE', ('MEDIA_ID',), numeric=False)
    templates = rows.read([metadata])
    verification = None if pairs is None else read_comparisons(pairs, templates)
    identification: tuple[Identification, ...] = ()
    if gallery is not None:
        identification = (Identification('', *(_listed(path, templates) for path in (gallery, probes))),)
    root = str(metadata.parent if root is None else root)
    split = Split('', verification, identification)
    return TemplateProtocol(name or metadata.stem, rows.faces(root, landmarks, allow_outside), (split,), root)


def _listed(path: str | Path, templates: Templates) -> Templates:
    """The templates that a file names, in the order of the metadata."""
    table = Columns(path, ['TEMPLATE_ID'])
    names = table.text('TEMPLATE_ID')
    index = {name: place for place, name in enumerate(templates.ids.tolist())}
    for row, name in enumerate(names):
        if name not in index:
            raise unknown_template(path, table.lines[row], name, templates)
    return select(templates, np.array(sorted({index[name] for name in names})))
