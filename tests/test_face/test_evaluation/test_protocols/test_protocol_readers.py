"""Protocols other than IJB-A: what is read, and what each mistake says."""

import argparse
import csv
import io
import runpy
import subprocess
import sys

import numpy as np
import pytest
from helpers import ROOT
from ijba_helpers import write_ijba

from mmsskd.errors import ConfigError
from mmsskd.face.evaluation.protocols import (
    csv_rows,
    file_faults,
    insightface,
    read_ijba,
    read_ijbc,
    read_insightface,
    read_lfw_pairs,
    read_templates,
)
from mmsskd.face.evaluation.protocols.arguments import add_protocol_arguments, protocol_from_args

TOOLS = ROOT / 'tools/face'
POINTS = ','.join(f'x{point},y{point}' for point in range(1, 6))


def write(path, *lines, end='\n'):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes((end.join(lines) + end).encode())
    return path


def wrong(path, old, new, message, read, *args, **kwargs):
    """The reader's error once ``old`` is ``new`` in a file; the file is put back."""
    before = path.read_bytes()
    assert old in before
    path.write_bytes(before.replace(old, new, 1))
    with pytest.raises(ConfigError, match=message):
        read(*args, **kwargs)
    path.write_bytes(before)


# IJB-C in NIST's layout


def write_ijbc(root, more='', values=''):
    """Faces of two people and a crowd; without MEDIA_ID and SIGHTING_ID unless ``more`` has them."""
    header = f'TEMPLATE_ID,SUBJECT_ID,FILENAME,FACE_X,FACE_Y,FACE_WIDTH,FACE_HEIGHT{more}'

    def rows(*faces):
        return [header, *(f'{face}{values}' for face in faces)]

    ann = ('1,7,img/1.jpg,1,2,30,40', '1,7,frames/9_01.png,5,5,20,20', '1,7,frames/9_02.png,5,6,20,20')
    bob, ann_again = '2,8,img/3.jpg,1,1,9,9', '3,7,img/3.jpg,20,1,9,9'
    tests = root / 'protocols'
    write(tests / 'test1/enroll_templates.csv', *rows(*ann, bob))
    write(tests / 'test1/verif_templates.csv', *rows(ann_again), end='\r\n')
    write(tests / 'test1/match.csv', '1,3', '2,3', end='\r\n')
    write(tests / 'test4/gallery_G1.csv', *rows(ann[0]))
    write(tests / 'test4/gallery_G2.csv', *rows(bob))
    write(tests / 'test4/probes.csv', *rows(ann_again, bob.replace('2,8', '4,8')))
    return root


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


# IJB-C in InsightFace's form


def write_insightface(root, name='IJBC', galleries=('G1', 'G2')):
    meta, prefix = root / 'meta', name.lower()
    write(meta / f'{prefix}_face_tid_mid.txt', '1.jpg 5 50', '2.jpg 5 50', '3.jpg 9 51', '4.jpg 2 52')
    lines = [f'{i}.jpg ' + ' '.join(str(10 * i + j) for j in range(10)) + f' 0.{i}' for i in range(1, 5)]
    write(meta / f'{prefix}_name_5pts_score.txt', *lines)
    write(meta / f'{prefix}_template_pair_label.txt', '5 9 1', '5 2 0', '9 2 0')
    write(meta / f'{prefix}_1N_gallery_{galleries[0]}.csv', 'TEMPLATE_ID,SUBJECT_ID,FILENAME', '5,70,a', '5,70,b')
    write(meta / f'{prefix}_1N_gallery_{galleries[1]}.csv', 'TEMPLATE_ID,SUBJECT_ID', '2,71')
    write(meta / f'{prefix}_1N_probe_mixed.csv', 'TEMPLATE_ID,SUBJECT_ID', '9,70')
    write(root / 'loose_crop/1.jpg', 'no image')
    return root


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


# templates of one's own


def write_templates(root):
    """The example of the docstring."""
    lines = [line.strip() for line in read_templates.__doc__.splitlines()]
    start = next(place for place, line in enumerate(lines) if line.startswith('TEMPLATE_ID,'))
    write(root / 'own.csv', *lines[start : start + 6])
    write(root / 'pairs.csv', 't1,t2', 't1,t3')
    write(root / 'gallery.csv', 'SUBJECT_ID,TEMPLATE_ID', 'ann,t1')
    write(root / 'probes.csv', 'template_id', 't3', 't2', 't3')
    return root


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


# LFW and its like


def write_lfw(path, head='2\t2', folds=2, separator='\t'):
    lines = [head]
    for fold in range(folds):
        same = [(f'Ann_{fold}', 1, 2), (f'Bob_{fold}', 3, 10)]
        other = [(f'Ann_{fold}', 1, f'Bob_{fold}', 3), (f'Ann_{fold}', 2, 'Eve', 1)]
        lines += [separator.join(map(str, pair)) for pair in same + other]
    return write(path, *lines)


@pytest.mark.parametrize('separator', ['\t', ' '])
def test_pairs_of_lfw(tmp_path, separator):
    path = write_lfw(tmp_path / 'pairs.txt', '2 2' if separator == ' ' else '2\t2', separator=separator)
    write(tmp_path / 'lfw/Ann_0/Ann_0_0001.png', '')
    protocol = read_lfw_pairs(path, tmp_path / 'lfw')
    assert protocol.faces.keys.tolist()[:4] == [f'Ann_0/Ann_0_000{i}.jpg' for i in (1, 2)] + [
        'Bob_0/Bob_0_0003.jpg', 'Bob_0/Bob_0_0010.jpg',
    ]  # fmt: skip
    assert protocol.faces.files[0] == 'Ann_0/Ann_0_0001.png' and list(file_faults(protocol)) == list(range(1, 9))
    assert len(protocol.faces) == 9 and protocol.pairs[:4].tolist() == [[0, 1], [2, 3], [0, 2], [1, 4]]
    assert protocol.genuine.tolist() == [True, True, False, False] * 2
    assert protocol.folds.tolist() == [0] * 4 + [1] * 4 and protocol.root == str(tmp_path / 'lfw')


def test_pairs_of_one_fold_with_blanks_in_names(tmp_path):
    path = write(tmp_path / 'pairs.txt', '1', 'Ann Lee\t1\t2', 'Ann Lee\t1\tBob\t2')
    protocol = read_lfw_pairs(path, tmp_path, suffix='.png')
    assert protocol.faces.keys[0] == 'Ann Lee/Ann Lee_0001.png' and protocol.folds.tolist() == [0, 0]
    marks = write(tmp_path / 'marks.csv', f'KEY,{POINTS}', 'Bob/Bob_0002.png,' + ','.join(map(str, range(10))))
    faces = read_lfw_pairs(path, tmp_path, suffix='.png', landmarks=marks).faces
    assert faces.landmarks[2, 1].tolist() == [2, 3] and np.isnan(faces.landmarks[:2]).all()


def test_labelled_pairs_are_dealt_out_to_ten_folds(tmp_path):
    """All genuine pairs come first in CALFW and CPLFW: contiguous folds would have one class each."""
    lines = [f'{kind}_{pair}_{side}.jpg\t{label}' for kind, label in (('same', 1), ('other', 0)) for pair in range(30)
             for side in 'ab']  # fmt: skip
    protocol = read_lfw_pairs(write(tmp_path / 'pairs.txt', *lines), tmp_path, 'calfw')
    assert protocol.folds.tolist() == np.repeat(np.arange(10), 6).tolist() and protocol.name == 'calfw'
    assert protocol.genuine.reshape(10, 6).tolist() == [[True] * 3 + [False] * 3] * 10
    names = protocol.faces.keys[protocol.pairs]
    assert names[6].tolist() == ['same_3_a.jpg', 'same_3_b.jpg'] and len(protocol.faces) == 120
    assert all(a[:-5] == b[:-5] and a.startswith('same') == same for (a, b), same in zip(names, protocol.genuine))
    write(tmp_path / 'pairs.txt', *lines[:40])
    with pytest.raises(ConfigError, match='20 genuine and 0 other pairs; ten folds need ten of each'):
        read_lfw_pairs(tmp_path / 'pairs.txt', tmp_path)


def test_mistakes_in_pairs_are_named(tmp_path):
    path = write_lfw(tmp_path / 'pairs.txt')
    read = (read_lfw_pairs, path, tmp_path)
    wrong(path, b'2\t2', b'10\t300', 'pairs.txt: 8 pairs, but row 1 says 10 folds of 300 .*: 6000', *read)
    wrong(path, b'2\t2', b'1\t2\t2', "row 1: found '1 2 2'; the first row is the folds", *read)
    wrong(path, b'2\t2', b'0\t2', "row 1: found '0 2'", *read)
    wrong(path, b'2\t2', '\xb2\t2'.encode(), "either the first row is .* .it is '\xb2 2'., or each row", *read)
    wrong(path, b'2\t2', b'2\t' + b'2' * 5000, 'row 1: found .2 2*... .5,002 characters.', *read)
    wrong(path, b'Bob_0\t3', 'Bob_0\t\xb3'.encode(), "row 3: found 'Bob_0 \xb3 10'; here, by the first row", *read)
    wrong(path, b'Bob_0\t3', b'B' * 30_000_000 + b'\tx', 'row 3: found .B{80}... .30,000,005 characters', *read)
    wrong(path, b'Bob_0\t3', b'../x\t3', "pairs.txt, row 3: found the image file '../x/../x_0003.jpg'", *read)
    wrong(
        path, b'Bob_0\t3\t10', b'Bob_0\t3', r"row 3: found 'Bob_0 3'; here, by the first row, belongs name i j", *read
    )
    wrong(path, b'Bob_0\t3\n', b'Bob_0\tx\n', r'row 4: .*belongs name1 i name2 j \(two persons\)', *read)
    write(path, 'a.jpg 1', 'b.jpg 0')
    with pytest.raises(ConfigError, match='rows 1 and 2: a pair with two labels'):
        read_lfw_pairs(path, tmp_path)
    wrong(path, b'b.jpg 0', b'b.jpg 1\nc.jpg 1', '3 rows; each pair is two rows', *read)
    wrong(path, b'b.jpg 0', b'b.jpg yes', "row 2: found 'b.jpg yes'; either the first row", *read)
    path.write_bytes(b'\n')
    with pytest.raises(ConfigError, match='no line in it'):
        read_lfw_pairs(path, tmp_path)
    with pytest.raises(ConfigError, match="no file .*pair.txt.*did you mean 'pairs.txt'"):
        read_lfw_pairs(tmp_path / 'pair.txt', tmp_path)


# the command line


def parse(*words):
    parser = argparse.ArgumentParser()
    add_protocol_arguments(parser)
    return parser.parse_args([str(word) for word in words])


def test_every_protocol_can_be_named_on_the_command_line(tmp_path):
    ijba, ijbc, lists = write_ijba(tmp_path / 'a'), write_ijbc(tmp_path / 'c'), write_insightface(tmp_path / 'i')
    own, lfw = write_templates(tmp_path / 't'), write_lfw(tmp_path / 'pairs.txt')
    search = ('--gallery', own / 'gallery.csv', '--probes', own / 'probes.csv')
    for words, faces, root in (
        (('--ijba', ijba, '--splits', 2, 1), 6, ijba / 'images'),
        (('--ijbc', ijbc, '--images', ijbc), 5, ijbc),
        (('--insightface', lists, '--name', 'IJBC'), 4, lists / 'loose_crop'),
        (('--templates', own / 'own.csv', '--pairs', own / 'pairs.csv', *search, '--images', own), 5, own),
        (('--lfw', lfw, tmp_path, '--suffix', '.png'), 9, tmp_path),
    ):
        protocol = protocol_from_args(parse(*words))
        assert len(protocol.faces) == faces and protocol.root == str(root)
    with pytest.raises(
        ConfigError, match='--name does not belong to --ijba, which takes --images, --landmarks, --splits'
    ):
        protocol_from_args(parse('--ijba', ijba, '--name', 'IJBC'))
    for words in ((), ('--ijba', ijba, '--ijbc', ijbc), ('--ijba', ijba, '--splits', 'split1')):
        with pytest.raises(SystemExit):
            parse(*words)


def test_the_list_of_faces_serves_as_landmarks(tmp_path):
    root = write_ijba(tmp_path)
    write_list = runpy.run_path(str(TOOLS / 'list_faces.py'))['write_list']
    protocol, file = read_ijba(root, splits=[1, 2]), io.StringIO()
    write_list(protocol, file)
    rows = list(csv.DictReader(io.StringIO(file.getvalue())))
    assert [row['KEY'] for row in rows] == protocol.faces.keys.tolist()
    assert rows[0]['FILE'] == str(root / 'images/img/1.JPG') and rows[0]['FACE_X'] == '328' and rows[0]['x1'] == ''
    faces = protocol.faces
    values = np.random.default_rng(0).normal(60, 20, faces.landmarks.shape).astype(np.float32)
    faces.landmarks[:] = values
    with open(tmp_path / 'marks.csv', 'w', newline='') as out:
        write_list(protocol, out)
    again = read_ijba(root, landmarks=tmp_path / 'marks.csv', splits=[1, 2])
    assert np.array_equal(again.faces.landmarks, values)


def test_the_command_line_allows_files_outside(tmp_path):
    root = write_ijba(tmp_path / 'set')
    for path in root.glob('IJB-A_1*/*/*.csv'):
        path.write_bytes(path.read_bytes().replace(b'img/3.jpg', b'../3.jpg'))
    words = ('--ijba', root, '--splits', 1, 2)
    with pytest.raises(ConfigError, match='--allow-outside'):
        protocol_from_args(parse(*words))
    assert '../3.jpg' in protocol_from_args(parse(*words, '--allow-outside')).faces.files


def test_the_tool_says_what_is_there_and_what_is_wrong(tmp_path):
    root = write_ijba(tmp_path / 'set')
    (root / 'images/img/4.png').unlink()
    command = [sys.executable, str(TOOLS / 'list_faces.py'), '--ijba', str(root), '--out', str(tmp_path / 'faces.csv')]
    done = subprocess.run([*command, '--splits', '1', '2'], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (
        'IJB-A: 6 faces, 2 without image file (missing file: img/4.jpg), 0 with landmarks, 6 with a box' in done.stderr
    )
    assert len((tmp_path / 'faces.csv').read_text().splitlines()) == 7
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ['faces.csv', 'set']
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr.splitlines()[-1].startswith('error: IJB-A: no file')


def test_the_readers_import_no_torch():
    code = (
        'import sys; import mmsskd.face.evaluation.protocols.arguments; '
        'print(sorted({"torch", "mmcv", "pandas", "sklearn", "cv2"} & set(sys.modules)))'
    )
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == '[]'
