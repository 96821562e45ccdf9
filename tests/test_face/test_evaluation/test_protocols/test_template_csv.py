"""A user's own templates."""

import numpy as np
import pytest
from protocol_helpers import POINTS, write, write_templates, wrong

from mmsskd.errors import ConfigError
from mmsskd.face.evaluation.protocols import (
    read_templates,
)


def test_the_example_of_own_templates_is_read(tmp_path):
    root = write_templates(tmp_path)
    kinds = {kind: root / f'{kind}.csv' for kind in ('pairs', 'gallery', 'probes')}
    protocol = read_templates(root / 'own.csv', **kinds)
    faces, (split,) = protocol.faces, protocol.splits
    assert (protocol.name, protocol.root) == ('own', str(root))
    assert faces.keys.tolist()[3:] == ['photos/party.jpg#1', 'photos/party.jpg#2'] and len(faces) == 5
    assert faces.boxes[4].tolist() == [210, 25, 50, 60]
    assert split.verification.templates.ids.tolist() == ['t1', 't2', 't3']
    assert split.verification.genuine.tolist() == [False, True]
    assert split.verification.templates.rows_media.tolist() == [0, 1, 1, 2, 2]
    (search,) = split.identification
    assert search.gallery.ids.tolist() == ['t1'] and search.probes.subjects.tolist() == ['bob', 'ann']
    assert search.probes.rows_face.tolist() == [3, 4] and search.gallery.rows_face.tolist() == [0, 1, 2]
    only = read_templates(root / 'own.csv', gallery=kinds['gallery'], probes=kinds['probes'], root='images', name='x')
    assert only.splits[0].verification is None and (only.root, only.name) == ('images', 'x')


def test_own_templates_may_bring_landmarks_and_need_neither_sightings_nor_boxes(tmp_path):
    header = f'FILE,MEDIA_ID,SUBJECT_ID,TEMPLATE_ID,{POINTS},score'
    values = ','.join(map(str, range(10)))
    path = write(tmp_path / 'own.csv', header, f'a.jpg,1,s,t,{values},0.5', f'b.jpg,1,s,u{"," * 11}')
    faces = read_templates(path, write(tmp_path / 'pairs.csv', 't,u')).faces
    assert faces.keys.tolist() == ['a.jpg', 'b.jpg'] and np.isnan(faces.boxes).all()
    assert faces.landmarks[0, 4].tolist() == [8, 9] and faces.scores[0] == 0.5 and np.isnan(faces.landmarks[1]).all()
    write(path, header.replace('y5,', ''), f'a.jpg,1,s,t,{values[:-2]},0.5')
    with pytest.raises(ConfigError, match='row 1: no column Y5; X1, .* are all there or none'):
        read_templates(path, tmp_path / 'pairs.csv')


def test_mistakes_in_own_templates_are_named(tmp_path):
    root = write_templates(tmp_path)
    own, pairs, gallery = root / 'own.csv', root / 'pairs.csv', root / 'gallery.csv'
    both = dict(gallery=gallery, probes=root / 'probes.csv')
    with pytest.raises(ConfigError, match='give pairs for 1:1, or gallery and probes'):
        read_templates(own)
    with pytest.raises(ConfigError, match='probes is missing'):
        read_templates(own, gallery=gallery)
    for path, old, new, message in (
        (pairs, b't1,t2', b'first,second', "pairs.csv, row 1: template 'first' is not .*no header: remove it"),
        (pairs, b't1,t3', b't1,t9', "pairs.csv, row 2: template 't9' is not in the metadata of 3 templates; did you mean"),
        (pairs, b't1,t3', b't1,t3,1', 'pairs.csv, row 2: 3 fields; a row is two TEMPLATE_IDs'),
        (gallery, b'ann,t1', b'ann,t4', "gallery.csv, row 2: template 't4' is not"),
        (gallery, b'TEMPLATE_ID', b'TEMPLATE', "no column TEMPLATE_ID.*did you mean 'TEMPLATE'"),
        (own, b'ann,videos/7/0002', b'bob,videos/7/0002', 'csv, row 4, .*: template t1 is of subject bob here and of ann in row 2'),
        (own, b'2,210', b'1,210', "row 6, columns FACE_X, FACE_Y: .*'photos/party.jpg', sighting 1, has 210, 25 here and 10, 20"),
        (own, b'photos/party', b'../party', "own.csv, row 5: found the image file '../party.jpg'; it must be below"),
(own, b'ann,videos/7/0002', b'b' * 100_000 + b',videos/7/0002', r'of subject b{80}\.\.\. \(100,000 characters\) here and'),
    ):  # fmt: skip
        wrong(path, old, new, message, read_templates, own, pairs, **both)
