#!/usr/bin/env python
"""List the faces of a protocol as CSV, for embedding or landmark detection by any program: each face once.

Columns: KEY (what files of embeddings and of landmarks call the face), FILE (the path of the image), FACE_X, FACE_Y, FACE_WIDTH,
FACE_HEIGHT (the box, pixels), x1,y1,...,x5,y5 (landmarks: eyes, nose, corners of the mouth, each left before right in the image)
and score; empty where unknown. With landmarks filled in, the file serves as --landmarks.
"""

import csv
import os
import sys

import numpy as np

# for _run, which is beside this file, however it was started
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import _run  # noqa: F401  puts the package on the path

from mmsskd.errors import ConfigError
from mmsskd.face.evaluation.protocols import describe_faults, file_faults
from mmsskd.face.evaluation.protocols.arguments import add_protocol_arguments, protocol_from_args
from mmsskd.utils.arguments import ToolParser
from mmsskd.utils.files import replacing

COLUMNS = (
    'KEY', 'FILE', 'FACE_X', 'FACE_Y', 'FACE_WIDTH', 'FACE_HEIGHT', *(f'{axis}{i}' for i in range(1, 6) for axis in 'xy'), 'score',
)  # fmt: skip


def write_list(protocol, file) -> None:
    """Write the faces of ``protocol`` to a text file that is open."""
    faces = protocol.faces
    numbers = np.concatenate([faces.boxes, faces.landmarks.reshape(len(faces), 10), faces.scores[:, None]], axis=1)
    writer = csv.writer(file)
    writer.writerow(COLUMNS)
    for key, path, values in zip(faces.keys.tolist(), faces.files.tolist(), numbers):
        # the shortest text that is read as the same float32
        texts = ('' if np.isnan(value) else np.format_float_positional(value, trim='-') for value in values)
        writer.writerow([key, os.path.join(protocol.root, path), *texts])


if __name__ == '__main__':
    parser = ToolParser(__doc__, 'python tools/face/list_faces.py --ijba data/IJB-A --out faces.csv')
    add_protocol_arguments(parser)
    parser.add_argument('--out', default='-', metavar='CSV', help='file to write; default: standard output')
    args = parser.parse_args()
    try:
        protocol = protocol_from_args(args)
        if args.out == '-':
            write_list(protocol, sys.stdout)
        else:
            with replacing(args.out) as part, part.open('w', encoding='utf-8', newline='') as file:
                write_list(protocol, file)
    except (ConfigError, OSError) as error:
        sys.exit(f'error: {error}')
    faces, faults = protocol.faces, file_faults(protocol)
    which = f' ({describe_faults(protocol, faults)})' if faults else ''
    marked = np.isfinite(faces.landmarks).all((1, 2)).sum()
    print(
        f'{protocol.name}: {len(faces)} faces, {len(faults)} without image file{which}, {marked} with landmarks, '
        f'{np.isfinite(faces.boxes).all(1).sum()} with a box',
        file=sys.stderr,
    )
