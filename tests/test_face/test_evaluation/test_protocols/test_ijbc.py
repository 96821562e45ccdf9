"""IJB-B and IJB-C as NIST gives them."""

import numpy as np
import pytest
from protocol_helpers import write_ijbc

from mmsskd.errors import ConfigError
from mmsskd.face.evaluation.protocols import (
    file_faults,
    read_ijbc,
)


def test_ijbc_without_sightings_and_media(tmp_path):
    protocol = read_ijbc(write_ijbc(tmp_path))
    keys = ['img/1.jpg', 'frames/9_01.png', 'frames/9_02.png', 'img/3.jpg#1,1,9,9', 'img/3.jpg#20,1,9,9']
    assert protocol.faces.keys.tolist() == keys and protocol.name == 'IJB-C' and protocol.root == f'{tmp_path}/images'
    (split,) = protocol.splits
    assert split.name == '' and split.verification.pairs.tolist() == [[0, 2], [1, 2]]
    assert split.verification.genuine.tolist() == [True, False]
    media = split.verification.templates.rows_media
    assert media[1] == media[2] and len(set(media[[0, 1, 3]])) == 3 and media[3] == media[4]  # two people on one photo
    assert [search.name for search in split.identification] == ['G1', 'G2']
    assert [search.gallery.subjects.tolist() for search in split.identification] == [[7], [8]]
    assert all(search.probes.ids.tolist() == [3, 4] for search in split.identification)
    assert list(file_faults(protocol)) == [0, 1, 2, 3, 4]


def test_ijbc_with_sightings_and_media(tmp_path):
    protocol = read_ijbc(write_ijbc(tmp_path, ',SIGHTING_ID,MEDIA_ID', ',,6'), name='IJB-B', test='test1')
    assert protocol.name == 'IJB-B' and set(protocol.splits[0].verification.templates.rows_media) == {0}


def test_ijbc_with_one_box_written_twice_is_two_faces_only_without_sightings(tmp_path):
    root = write_ijbc(tmp_path, ',SIGHTING_ID', ',5')
    with pytest.raises(ConfigError, match=r"'img/3.jpg', sighting 5, has 20 here and 1 in .*row 5"):
        read_ijbc(root)


def test_a_box_in_other_digits_is_the_same_face_without_sightings(tmp_path):
    expected = read_ijbc(write_ijbc(tmp_path)).faces
    probes = tmp_path / 'protocols/test4/probes.csv'
    probes.write_bytes(probes.read_bytes().replace(b'20,1,9,9', b'20.0000004,1.0,9,8.9999999'))
    found = read_ijbc(tmp_path).faces
    assert found.keys.tolist() == expected.keys.tolist() and np.array_equal(found.boxes, expected.boxes)
    probes.write_bytes(probes.read_bytes().replace(b'20.0000004', b'20.0021'))
    assert len(read_ijbc(tmp_path).faces) == len(expected) + 1


def test_what_ijbc_lacks_is_named(tmp_path):
    write_ijbc(tmp_path)
    with pytest.raises(ConfigError, match="test must be 'test1' or 'test2', found 'test4'"):
        read_ijbc(tmp_path, test='test4')
    (tmp_path / 'protocols/test1/match.csv').unlink()
    with pytest.raises(ConfigError, match=r"no file '.*match.csv'"):
        read_ijbc(tmp_path)
    assert read_ijbc(tmp_path, test='test2').splits[0].verification is None
    with pytest.raises(ConfigError, match='neither .*test1.* nor .*test4'):
        read_ijbc(tmp_path / 'protocols')
