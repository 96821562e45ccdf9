"""Landmarks of the faces of a protocol."""

import numpy as np
from protocol_helpers import POINTS, write, wrong

from mmsskd.face.evaluation.protocols import (
    read_templates,
)


def test_landmarks_of_one_face_agree_up_to_their_digits(tmp_path):
    header, values = f'FILE,MEDIA_ID,SUBJECT_ID,TEMPLATE_ID,{POINTS},score', ','.join(f'{i / 7:.8f}' for i in range(10))
    other = ','.join(f'{i / 7:.13f}' for i in range(10))
    pairs = write(tmp_path / 'pairs.csv', 't,u')
    own = write(tmp_path / 'own.csv', header, f'a.jpg,1,s,t,{values},0.5', f'a.jpg,1,s,u,{other},0.5000001')
    faces = read_templates(own, pairs).faces
    assert len(faces) == 1 and np.allclose(faces.landmarks.ravel(), np.arange(10) / 7, atol=1e-6)
    wrong(
        own,
        b',0.5000001',
        b',0.6',
        'own.csv, row 3, column SCORE: .* has 0.6 here and 0.5 in',
        read_templates,
        own,
        pairs,
    )
    moved = (b'0.1428571428571', b'0.144')
    wrong(own, *moved, 'row 3, column Y1: .* has 0.144 here and 0.14285714 in .*, row 2', read_templates, own, pairs)
