"""IJB-B and IJB-C in InsightFace's form."""

import numpy as np
import pytest
from protocol_helpers import write, write_insightface, wrong

from mmsskd.errors import ConfigError
from mmsskd.face.evaluation.protocols import (
    csv_rows,
    file_faults,
    insightface,
    read_insightface,
)


@pytest.mark.parametrize(('name', 'galleries'), [('IJBC', ('G1', 'G2')), ('IJBB', ('S1', 'S2'))])
def test_insightface_form(tmp_path, name, galleries):
    protocol = read_insightface(write_insightface(tmp_path / name, name, galleries), name)
    faces, (split,) = protocol.faces, protocol.splits
    assert protocol.name == name and faces.keys.tolist() == ['1.jpg', '2.jpg', '3.jpg', '4.jpg']
    assert faces.landmarks[1].tolist() == [[20, 21], [22, 23], [24, 25], [26, 27], [28, 29]]
    assert faces.scores.tolist() == np.float32([0.1, 0.2, 0.3, 0.4]).tolist() and faces.landmarks.dtype == np.float32
    assert list(file_faults(protocol)) == [1, 2, 3] and protocol.root == str(tmp_path / name / 'loose_crop')
    templates = split.verification.templates
    assert templates.ids.tolist() == [2, 5, 9] and templates.subjects.tolist() == [71, 70, 70]
    assert templates.rows_template.tolist() == [1, 1, 2, 0] and templates.rows_media.tolist() == [50, 50, 51, 52]
    assert split.verification.pairs.tolist() == [[1, 2], [1, 0], [2, 0]]
    assert split.verification.genuine.tolist() == [True, False, False]
    first, second = split.identification
    assert (first.name, second.name) == galleries and first.gallery.ids.tolist() == [5]  # once, not once a row
    assert first.gallery.rows_face.tolist() == [0, 1] and second.gallery.subjects.tolist() == [71]
    assert first.probes.ids.tolist() == [9] and first.probes.rows_face.tolist() == [2]
    assert read_insightface(tmp_path, name).root == protocol.root  # the folder above does as well


def test_insightface_form_without_1n_lists(tmp_path):
    write_insightface(tmp_path)
    for path in tmp_path.glob('meta/*1N*'):
        path.unlink()
    (split,) = read_insightface(tmp_path).splits
    assert split.identification == () and split.verification.genuine.tolist() == [True, False, False]
    assert set(split.verification.templates.subjects) == {-1}


@pytest.mark.parametrize('lines', [1, 2, 1 << 16])
def test_mistakes_in_insightface_lists_are_named(tmp_path, lines, monkeypatch):
    """Whatever the size of the blocks that the files are read in."""
    monkeypatch.setattr(insightface, 'LINES', lines)
    write_insightface(tmp_path)
    faces, points = tmp_path / 'meta/ijbc_face_tid_mid.txt', tmp_path / 'meta/ijbc_name_5pts_score.txt'
    for path, old, new, message in (
        (points, b'3.jpg', b'4.jpg', "5pts_score.txt, row 3: found '4.jpg', but .*tid_mid.txt, row 3, has '3.jpg'"),
        (points, b'3.jpg 30 ', b'3.jpg ', "5pts_score.txt, row 3: found '3.jpg 31"),
        (points, b' 31 ', b' x31 ', "5pts_score.txt, row 3: found '3.jpg 30 x31"),
        (faces, b'3.jpg 9', b'3.jpg nine', "tid_mid.txt, row 3: found '3.jpg nine 51'"),
        (
            faces,
            b'3.jpg 9 51',
            b'3.jpg 951',
            "tid_mid.txt, row 3: found '3.jpg 951'; a row is name of the crop, template",
        ),
        (faces, b'4.jpg', b'2.jpg', "tid_mid.txt, row 4: '2.jpg' is there a second time"),
        (faces, b'4.jpg 2 52\n', b'', '5pts_score.txt has 4 crops, .*tid_mid.txt 3'),
        (points, b' 31 ', b' nan ', "5pts_score.txt, row 3: found '3.jpg 30 nan .*numbers must be finite"),
        (points, b' 31 ', b' 1e39 ', "5pts_score.txt, row 3: found '3.jpg 30 1e39"),
        (points, b' 31 ', b' 3_1 ', "5pts_score.txt, row 3: found '3.jpg 30 3_1"),
        (faces, b'3.jpg 9', '3.jpg \xb2'.encode(), "tid_mid.txt, row 3: found '3.jpg \xb2 51'"),
        (faces, b'\n3.jpg 9', b'\n\n3.jpg nine', 'tid_mid.txt, row 4: found'),  # a blank line counts as a row
        (faces, b'3.jpg', b'../3.jpg', "5pts_score.txt, row 3: found '3.jpg', but .*, row 3, has '../3.jpg'"),
        (faces, b'4.jpg', b'\xff.jpg', 'tid_mid.txt: not a text file'),
    ):
        wrong(path, old, new, message, read_insightface, tmp_path)
    values = points.read_bytes()
    points.write_bytes(values[: values.index(b'4.jpg')])
    with pytest.raises(ConfigError, match='5pts_score.txt has 3 crops, .*tid_mid.txt 4'):
        read_insightface(tmp_path)
    points.write_bytes(values + b'\n \n')
    faces.write_bytes(b'\xef\xbb\xbf' + faces.read_bytes() + b'\r\n')  # blank lines at the end, a byte order mark
    assert read_insightface(tmp_path).faces.keys.tolist() == ['1.jpg', '2.jpg', '3.jpg', '4.jpg']
    for path in (points, faces):
        path.write_bytes(path.read_bytes().replace(b'3.jpg', b'../3.jpg'))
    with pytest.raises(ConfigError, match=r"tid_mid.txt, row 3: found the image file '../3.jpg'"):
        read_insightface(tmp_path)
    assert read_insightface(tmp_path, allow_outside=True).faces.files[2] == '../3.jpg'


@pytest.mark.parametrize('block', [3, 8, 1 << 24])
def test_mistakes_in_insightface_pairs_are_named(tmp_path, block, monkeypatch):
    monkeypatch.setattr(csv_rows, 'BLOCK', block)
    write_insightface(tmp_path)
    pairs, meta = tmp_path / 'meta/ijbc_template_pair_label.txt', tmp_path / 'meta'
    for path, old, new, message in (
        (
            pairs,
            b'5 2 0',
            b'5 2',
            "pair_label.txt, row 2: found '5 2'; a row is template, template, label: whole numbers",
        ),
        (pairs, b'5 2 0\n9', b'5 2\n0 9', "pair_label.txt, row 2: found '5 2'"),  # as many numbers, but other lines
        (pairs, b'5 2 0', b'5 2 2', 'row 2, column label: found 2; it must be 0 or 1'),
        (pairs, b'5 2 0', b'5 2 1', 'row 2, column label: found 1; the 1:N lists give the subjects 70 and 71'),
        (pairs, b'5 9 1', b'5 9 0', 'row 1, column label: found 0; the 1:N lists give the subjects 70 and 70'),
        (pairs, b'9 2 0', b'9 3 0', "row 3: template '3' is not in the metadata of 3 templates"),
        (pairs, b'9 2 0', b'123456789 2 0', "row 3: template '123456789' is not"),
        (pairs, b'9 2 0', b'9 -2 0', "row 3: found '9 -2 0'"),
        (pairs, b'9 2 0', b'9 2.0 0', "row 3: found '9 2.0 0'"),
        (pairs, b'9 2 0', b'\n \n9 3 0', "row 5: template '3' is not"),
        (pairs, pairs.read_bytes(), b'\n', 'no pairs in it'),
        (pairs, b'9 2 0', b'9 \xc2\xb2 0', "row 3: found '9 \xb2 0'"),
        (
            meta / 'ijbc_1N_gallery_G1.csv',
            b'5,70,b',
            b'5,72,b',
            'G1.csv, row 3, column SUBJECT_ID: .*subject 70 elsewhere',
        ),
        (meta / 'ijbc_1N_probe_mixed.csv', b'9,70', b'8,70', "mixed.csv, row 2: template '8' is not"),
    ):
        wrong(path, old, new, message, read_insightface, tmp_path)
    expected = read_insightface(tmp_path).splits[0].verification
    for content in (b'5 9 1\r\n5 2 0\r\n9 2 0', b'\n5\t9\t1\n5  2 0 \n\n9 2 0\n', b'5,9,1\n5,2,0\n9,2,0\n'):
        pairs.write_bytes(content)
        got = read_insightface(tmp_path).splits[0].verification
        assert np.array_equal(got.pairs, expected.pairs) and np.array_equal(got.genuine, expected.genuine)


def test_many_pairs_and_large_ids_are_read_as_they_are(tmp_path, monkeypatch):
    monkeypatch.setattr(csv_rows, 'BLOCK', 1 << 12)
    rng = np.random.default_rng(0)
    for most in (30_000, 10**17):
        rows = rng.integers(0, most, (5000, 2))
        path = write(tmp_path / 'pairs.txt', *(f'{a} {b}' for a, b in rows.tolist()))
        lines, read = map(np.concatenate, zip(*csv_rows.read_number_rows(path, 'ab', '')))
        assert np.array_equal(read, rows) and np.array_equal(lines, np.arange(1, 5001))


def test_ids_too_high_for_a_table_are_found(tmp_path):
    root = write_insightface(tmp_path)
    for path in root.glob('meta/*'):
        numbers = path.read_bytes().replace(b' 9 ', b' 123456789012 ').replace(b'\n9 ', b'\n123456789012 ')
        path.write_bytes(numbers.replace(b'\n9,', b'\n123456789012,'))
    assert read_insightface(root).splits[0].verification.pairs.tolist() == [[1, 2], [1, 0], [2, 0]]
    (root / 'meta/ijbc_template_pair_label.txt').write_bytes(b'5 123456789013 0\n')
    with pytest.raises(ConfigError, match="row 1: template '123456789013'"):
        read_insightface(root)


def test_insightface_knows_two_sets(tmp_path):
    with pytest.raises(ConfigError, match="must be IJBC or IJBB, found 'IJB-C'; did you mean 'IJBC'"):
        read_insightface(tmp_path, 'IJB-C')
    with pytest.raises(ConfigError, match=r"no file '.*meta/ijbc_face_tid_mid.txt'"):
        read_insightface(tmp_path)
