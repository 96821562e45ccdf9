"""Reading IJB-A in NIST's layout: what is read, and what each mistake in the files says."""

import os
import shutil

import numpy as np
import pytest
from ijba_helpers import HEADER, TAIL, row, table, write_ijba

from mmsskd.errors import ConfigError
from mmsskd.face.evaluation.protocols import describe_faults, file_faults, read_ijba

BOTH = dict(splits=[1, 2])


def faces_of(protocol, templates):
    """For each template its id and the keys of its faces."""
    return {
        name: [protocol.faces.keys[face] for face in templates.rows_face[templates.rows_template == place]]
        for place, name in enumerate(templates.ids.tolist())
    }


def edit(path, old, new, count=1):
    content = path.read_bytes()
    assert old in content
    path.write_bytes(content.replace(old, new, count))


def test_both_tasks_of_all_splits_are_read(tmp_path):
    protocol = read_ijba(write_ijba(tmp_path), **BOTH)
    keys = ['img/1.jpg', 'frame/2_00001.png', 'frame/2_00004.png', 'img/4.jpg#105', 'img/4.jpg#106']
    assert protocol.name == 'IJB-A' and protocol.faces.keys.tolist() == [*keys, 'img/3.jpg']
    assert protocol.faces.boxes[0].tolist() == [328, 20, 50, 60] and protocol.faces.boxes.dtype == np.float32
    assert [split.name for split in protocol.splits] == ['split1', 'split2']
    first, second = protocol.splits
    assert faces_of(protocol, first.verification.templates) == {1: keys[:2], 2: [keys[2]], 3: [keys[3]], 4: [keys[4]]}
    assert faces_of(protocol, second.verification.templates)[1] == ['img/3.jpg', 'frame/2_00004.png']
    assert first.verification.templates.subjects.tolist() == [7, 7, 8, 9]
    assert first.verification.pairs.tolist() == [[0, 1], [0, 2], [0, 3]]  # the first row is no header
    assert first.verification.genuine.tolist() == [True, False, False]
    assert first.verification.pairs.dtype == np.int32
    (search,) = first.identification
    assert faces_of(protocol, search.gallery) == {2: [keys[0]], 1: [keys[3]]}
    assert faces_of(protocol, search.probes) == {1: keys[1:3], 3: [keys[4]]}
    media = search.probes.rows_media
    assert media[0] == media[1] != media[2] and search.gallery.rows_media[0] not in media
    assert np.isnan(protocol.faces.landmarks).all()  # the points of eyes and nose are no landmarks


def test_files_on_disk_are_found_whatever_their_ending(tmp_path):
    protocol = read_ijba(write_ijba(tmp_path), **BOTH)
    assert protocol.root == str(tmp_path / 'images')
    files = protocol.faces.files.tolist()
    assert files == ['img/1.JPG', 'frame/2_00001.png', 'frame/2_00004.png', 'img/4.png', 'img/4.png', 'img/3.jpeg']
    assert file_faults(protocol) == {}
    (tmp_path / 'images/img/1.JPEG').write_bytes(b'')  # further from the listed img/1.jpg than img/1.JPG is
    assert read_ijba(tmp_path, **BOTH).faces.files[0] == 'img/1.JPG'
    (tmp_path / 'images/img/4.png').unlink()
    protocol = read_ijba(tmp_path, **BOTH)
    assert list(file_faults(protocol)) == [3, 4] and protocol.faces.files[3] == 'img/4.jpg'
    shutil.rmtree(tmp_path / 'images')
    assert list(file_faults(read_ijba(tmp_path, **BOTH))) == list(range(6))  # embeddings can be measured without images


def test_another_faces_file_is_no_stand_in(tmp_path):
    write_ijba(tmp_path)
    edit(tmp_path / 'IJB-A_11_sets/split2/verify_metadata_2.csv', b'img/3.jpg', b'img/1.png')
    (tmp_path / 'images/img/1.JPG').rename(tmp_path / 'images/img/1.png')
    protocol = read_ijba(tmp_path, **BOTH)
    files = dict(zip(protocol.faces.keys.tolist(), protocol.faces.files.tolist()))
    assert files['img/1.png'] == 'img/1.png' and files['img/1.jpg'] == 'img/1.jpg'
    assert protocol.faces.keys[next(iter(file_faults(protocol)))] == 'img/1.jpg'


@pytest.mark.parametrize(
    ('one', 'many', 'images'),
    [
        ('protocols/IJB-A_11_sets', 'protocols/IJB-A_1N_sets', 'images'),
        ('protocol_11', 'protocol_1N', '.'),
        ('IJB-A_11_sets', 'IJB-A_1N_sets', '.'),
    ],
)
def test_usual_layouts_are_detected(tmp_path, one, many, images):
    write_ijba(tmp_path / 'plain')
    root = tmp_path / 'root'
    for old, new in (('IJB-A_11_sets', one), ('IJB-A_1N_sets', many), ('images', images)):
        for entry in (tmp_path / 'plain' / old).iterdir():
            (root / new).mkdir(parents=True, exist_ok=True)
            entry.rename(root / new / entry.name)
    protocol = read_ijba(root, **BOTH)
    assert len(protocol.faces) == 6 and file_faults(protocol) == {}
    assert all(split.verification and split.identification for split in protocol.splits)


def test_folders_may_be_anywhere_and_a_task_may_be_absent(tmp_path):
    write_ijba(tmp_path / 'set')
    for name in ('IJB-A_11_sets', 'IJB-A_1N_sets', 'images'):
        (tmp_path / 'set' / name).rename(tmp_path / name.lower())
    with pytest.raises(ConfigError, match='has none of IJB-A_11_sets.*in it: nothing'):
        read_ijba(tmp_path / 'set', **BOTH)
    options = dict(images=tmp_path / 'images', **BOTH)
    protocol = read_ijba(tmp_path / 'set', sets_11=tmp_path / 'ijb-a_11_sets', **options)
    assert all(split.verification and not split.identification for split in protocol.splits)
    assert file_faults(protocol) == {}
    protocol = read_ijba(tmp_path / 'set', sets_1n=tmp_path / 'ijb-a_1n_sets', **options)
    assert all(split.verification is None and len(split.identification) == 1 for split in protocol.splits)
    with pytest.raises(ConfigError, match="sets_11: no folder 'nowhere'"):
        read_ijba(tmp_path / 'set', sets_11='nowhere')
    with pytest.raises(ConfigError, match="images: no folder 'nowhere'"):
        read_ijba(tmp_path / 'set', sets_11=tmp_path / 'ijb-a_11_sets', images='nowhere')


def test_split_1_is_not_split_10(tmp_path):
    root = write_ijba(tmp_path, range(1, 11))
    protocol = read_ijba(root)
    assert [split.name for split in protocol.splits] == [f'split{number}' for number in range(1, 11)]
    ten, one = protocol.splits[9].verification.templates, protocol.splits[0].verification.templates
    assert faces_of(protocol, ten)[1] != faces_of(protocol, one)[1]
    (alone,) = read_ijba(root, splits=[10]).splits
    assert alone.name == 'split10' and alone.verification.templates.subjects.tolist() == ten.subjects.tolist()
    for splits, found in (('10', "'10'"), ([], r'\[\]'), ([1, 1], r'\[1, 1\]'), ([0], r'\[0\]'), (['1'], r"\['1'\]")):
        with pytest.raises(ConfigError, match=f'splits must be.*found {found}'):
            read_ijba(root, splits=splits)
    shutil.rmtree(root / 'IJB-A_1N_sets/split10')
    with pytest.raises(ConfigError, match=r'no file .*split10/search_gallery_10.csv.*complete the copy'):
        read_ijba(root)


def test_columns_are_read_by_name(tmp_path):
    """24 columns in another order, a byte order mark, blank lines, '12.0' for a number: as other programs save such a file."""
    expected = read_ijba(write_ijba(tmp_path), **BOTH)
    path = tmp_path / 'IJB-A_11_sets/split1/verify_metadata_1.csv'
    header, *rows = [line.split(',')[:-1] for line in path.read_text().split('\n') if line]
    assert len(header) == 24
    order = np.append(0, 1 + np.random.default_rng(0).permutation(23))
    lines = [','.join(np.array(line)[order]) for line in (header, *rows)]
    medium = order.tolist().index(3)
    lines[1] = ','.join(field + '.0' if place == medium else field for place, field in enumerate(lines[1].split(',')))
    path.write_bytes(b'\xef\xbb\xbf' + '\n\r\n'.join([*lines, '', '']).encode())
    protocol = read_ijba(tmp_path, **BOTH)
    assert protocol.faces.keys.tolist() == expected.faces.keys.tolist()
    assert np.array_equal(protocol.faces.boxes, expected.faces.boxes)
    got, wanted = (one.splits[0].verification.templates for one in (protocol, expected))
    assert np.array_equal(got.rows_face, wanted.rows_face) and np.array_equal(got.ids, wanted.ids)


def test_rows_of_a_template_need_not_be_together(tmp_path):
    write_ijba(tmp_path)
    path = tmp_path / 'IJB-A_11_sets/split1/verify_metadata_1.csv'
    path.write_bytes(table(row(1, 7, 'a'), row(3, 8, 'e'), row(2, 7, 'c'), row(4, 9, 'f'), row(1, 7, 'b')))
    protocol = read_ijba(tmp_path, **BOTH)
    templates = protocol.splits[0].verification.templates
    assert templates.ids.tolist() == [1, 3, 2, 4] and protocol.splits[0].verification.pairs.tolist()[0] == [0, 2]
    assert faces_of(protocol, templates)[1] == ['img/1.jpg', 'frame/2_00001.png']


def test_a_probe_of_a_subject_without_enrol_template_stays(tmp_path):
    write_ijba(tmp_path)
    (tmp_path / 'IJB-A_11_sets/split1/verify_comparisons_1.csv').write_bytes(b'3,4\r\n3,1\r\n')
    verification = read_ijba(tmp_path, **BOTH).splits[0].verification
    assert verification.templates.ids.tolist() == [1, 3, 4]  # 2 is in no pair
    assert verification.pairs.tolist() == [[1, 2], [1, 0]] and not verification.genuine.any()
    assert verification.templates.rows_template.tolist() == [0, 0, 1, 2]


def test_comparisons_that_are_wrong_are_named_and_none_is_lost(tmp_path):
    write_ijba(tmp_path)
    path = tmp_path / 'IJB-A_11_sets/split2/verify_comparisons_2.csv'
    for content, message in (
        (
            b'TEMPLATE_ID_1,TEMPLATE_ID_2\r\n1,2\r\n',
            r"comparisons_2.csv, row 1: found 'TEMPLATE_ID_1.*no header: remove it",
        ),
        (
            b'1,2\r\n1,5\r\n',
            r"comparisons_2.csv, row 2: template '5' is not in the metadata of 4 templates.*Candidates: 1, 2",
        ),
        (b'1,2\r\n\r\n1\r\n', r"comparisons_2.csv, row 3: found '1'"),
        (b'1,2\n1,x\n', r"row 2: found '1,x'"),
        (b'1,-2\n', r"row 1: found '1,-2'"),
        (b'1,2,3\n', r"row 1: found '1,2,3'"),
        (b'1,99999999999999999999\n', r"row 1: found '1,9"),
        (b'', 'empty file'),
        (b'\n', 'no pairs in it'),
    ):
        path.write_bytes(content)
        with pytest.raises(ConfigError, match=message):
            read_ijba(tmp_path, **BOTH)
    for content in (b'1,2\n1,3\n1,4', b'\n1, 2\r\n1\t3\n\n1,4\n\n'):  # no end of line; not tidy
        path.write_bytes(content)
        assert read_ijba(tmp_path, **BOTH).splits[1].verification.pairs.tolist() == [[0, 1], [0, 2], [0, 3]]


@pytest.mark.parametrize(
    ('old', 'new', 'message'),
    [
        (b'1,7,img/1', b'1,8,img/1', r'verify_metadata_1.csv, row 3, column SUBJECT_ID: template 1 is of subject 7 here and of 8'),
        (b'8,img/4', b'7,img/4', r"1N_sets/split1/search_gallery_1.csv, row 3, .*face 'img/4.jpg'.* has 8 here and 7 in .*row 5"),
        (b'328,20', b'329,20', r"search_gallery_1.csv, row 2, column FACE_X: .*'img/1.jpg', .* 101, has 328 here and 329 in"),
        (b'328,20,', b'328,,', 'row 2, column FACE_Y: .*must be all filled or all empty'),
        (b'328,20', b'32B,20', "row 2, column FACE_X: found '32B'; it must be a number"),
        (b'328,20', b'inf,20', "row 2, column FACE_X: found 'inf'; it must be finite"),
        (b'328,20', b'1e39,20', "row 2, column FACE_X: found '1e39'; it must be finite"),  # as float32, too
        (b'328,20', b'nan,20', "row 2, column FACE_X: found 'nan'; .*leave it empty"),
        (b'328,20', b'3_28,20', "row 2, column FACE_X: found '3_28'; it must be a number"),
        (b'328,20', '\u0663,20'.encode(), "row 2, column FACE_X: found '\u0663'; it must be a number"),
        (b'2,7,', '\xb2,7,'.encode(), "row 4, column TEMPLATE_ID: found '\xb2'; it must be a whole number"),
        (b'2,7,', b'9' * 5000 + b',7,', 'row 4, column TEMPLATE_ID: found .9{80}... .5,000 characters'),
        (b'2,7,', b'2.5,7,', "row 4, column TEMPLATE_ID: found '2.5'; it must be a whole number"),
        (b'2,7,', b',7,', "row 4, column TEMPLATE_ID: found ''; it must not be empty"),
        (b',101,', b',,', "row 2, column SIGHTING_ID: found ''"),
        (b',1,2,,,5', b',1,2,,5', 'row 2: 24 fields, but the header has 25'),
        (b',1,2,,,5', b',1,2,,,,5', 'row 2: 26 fields, but the header has 25'),
        (b'MEDIA_ID', b'MEDIUM_ID', "no column MEDIA_ID; needed: TEMPLATE_ID.*did you mean 'MEDIUM_ID'"),
        (b'FRAME', b'MEDIA_ID', 'row 1: 2 columns are named MEDIA_ID; keep one'),
        (b'img/1', b'img/\xff', 'not a CSV file in UTF-8'),
    ],
)  # fmt: skip
def test_rows_that_contradict_are_named(tmp_path, old, new, message):
    write_ijba(tmp_path)
    edit(tmp_path / 'IJB-A_11_sets/split1/verify_metadata_1.csv', old, new)
    with pytest.raises(ConfigError, match=message):
        read_ijba(tmp_path, **BOTH)


def boxes_of(protocol):
    return dict(zip(protocol.faces.keys.tolist(), protocol.faces.boxes.tolist()))


def test_other_digits_of_one_box_are_no_other_box(tmp_path):
    """The real lists write 7,826 of 25,450 boxes so, from split to split."""
    write_ijba(tmp_path)
    boxes = ('93.71428571,20.428571,50,60', '93.7142857142857,20.4285714285714,50.0,60')
    for split, box in zip((1, 2), boxes):
        for task, name in (('11', 'verify_metadata'), ('1N', 'search_gallery')):
            path = tmp_path / f'IJB-A_{task}_sets/split{split}/{name}_{split}.csv'
            path.write_bytes(
                path.read_bytes().replace(b'328.0,20.0,50,60.00', box.encode()).replace(b'328,20,50,60', box.encode())
            )
    both, turned = (boxes_of(read_ijba(tmp_path, splits=splits)) for splits in ([1, 2], [2, 1]))
    assert both == turned  # one value for a face, whatever was read first
    assert both['img/1.jpg'] == np.float32([93.71428571, 20.428571, 50, 60]).tolist()
    for split in (1, 2):
        alone = boxes_of(read_ijba(tmp_path, splits=[split]))
        assert np.allclose(alone['img/1.jpg'], both['img/1.jpg'], rtol=0, atol=1e-5)
    gallery = tmp_path / 'IJB-A_1N_sets/split2/search_gallery_2.csv'
    edit(gallery, b'93.7142857142857', b'93.7152857')  # 1e-3 pixels
    assert boxes_of(read_ijba(tmp_path, **BOTH)) == both
    edit(gallery, b'93.7152857', b'93.7162857142857')
    message = (
        r'search_gallery_2.csv, row 2, column FACE_X: .* has 93.7162857142857 here and 93.71428571 in .*metadata_1.csv'
    )
    with pytest.raises(ConfigError, match=message):
        read_ijba(tmp_path, **BOTH)


def test_a_medium_in_other_words_is_the_same(tmp_path):
    write_ijba(tmp_path)
    edit(tmp_path / 'IJB-A_1N_sets/split1/search_probe_1.csv', b'00001.png,12,', b'00001.png,12.0,')
    media = read_ijba(tmp_path, **BOTH).splits[0].identification[0].probes.rows_media
    assert media[0] == media[1] != media[2]


def test_blank_lines_at_the_end_are_no_error(tmp_path):
    expected = read_ijba(write_ijba(tmp_path), **BOTH)
    for path in tmp_path.glob('IJB-A_1*/*/*.csv'):
        blank = b'\r\n\r\n' if 'comparisons' in path.name else b'\n \n\r\n'
        if 'probe' in path.name:
            blank = b',' * 24 + b'\r\n'  # as a spreadsheet writes it
        path.write_bytes(path.read_bytes() + blank)
    found = read_ijba(tmp_path, **BOTH)
    assert found.faces.keys.tolist() == expected.faces.keys.tolist()
    for one, other in zip(found.splits, expected.splits):
        assert np.array_equal(one.verification.pairs, other.verification.pairs)
        assert np.array_equal(one.identification[0].probes.rows_face, other.identification[0].probes.rows_face)


def test_what_is_no_file_is_named_for_what_it_is(tmp_path):
    root = write_ijba(tmp_path)
    (root / 'images/img/4.png').write_bytes(b'')
    (root / 'images/img/3.jpeg').unlink()
    (root / 'images/img/3.png').mkdir()  # a folder is no stand-in for a file
    (root / 'images/img/1.JPG').unlink()
    (root / 'images/img/1.jpg').mkdir()
    (root / 'images/frame/2_00001.png').unlink()
    (root / 'images/frame/2_00001.png').symlink_to('nowhere')
    faults = file_faults(protocol := read_ijba(root, **BOTH))
    kinds = ['folder', 'link to nothing', 'empty file (0 bytes)', 'empty file (0 bytes)', 'missing file']
    assert list(faults.values()) == kinds and list(faults) == [0, 1, 3, 4, 5]
    assert describe_faults(protocol, faults).endswith('empty file (0 bytes): img/4.png; missing file: img/3.jpg')
    (root / 'landmarks.csv').mkdir()
    with pytest.raises(ConfigError, match=r"landmarks.csv': found a file that cannot be read: folder"):
        read_ijba(root, **BOTH)
    (root / 'landmarks.csv').rmdir()
    path = root / 'IJB-A_11_sets/split2/verify_comparisons_2.csv'
    path.write_bytes(b'')
    with pytest.raises(ConfigError, match=r"comparisons_2.csv': .*cannot be read: empty file \(0 bytes\)"):
        read_ijba(root, **BOTH)


@pytest.mark.parametrize('file', ['../secret.jpg', 'img/../../1.jpg', '/etc/1.jpg', 'img\\..\\1.jpg'])
def test_files_outside_are_refused_unless_allowed(tmp_path, file):
    write_ijba(tmp_path)
    edit(tmp_path / 'IJB-A_11_sets/split2/verify_metadata_2.csv', b'img/3.jpg', file.encode())
    with pytest.raises(ConfigError) as error:
        read_ijba(tmp_path, **BOTH)
    assert 'verify_metadata_2.csv, row 2: found the image file ' + repr(file) in str(error.value)
    assert 'allow_outside=True (--allow-outside)' in str(error.value)
    assert file in read_ijba(tmp_path, allow_outside=True, **BOTH).faces.files


def test_missing_folders_and_files_are_named(tmp_path):
    root = write_ijba(tmp_path / 'IJB-A')
    with pytest.raises(ConfigError, match="no folder .*IJBA.*did you mean 'IJB-A'"):
        read_ijba(tmp_path / 'IJBA')
    with pytest.raises(
        ConfigError, match=r'no file .*split3/verify_metadata_3.csv.*choose other splits.*split1, split2'
    ):
        read_ijba(root)
    (root / 'IJB-A_11_sets/split1/verify_metadata_1.csv').write_bytes(table())
    with pytest.raises(ConfigError, match='no row below the header'):
        read_ijba(root, **BOTH)


POINTS = ','.join(f'x{point},y{point}' for point in range(1, 6))


def points(start):
    return ','.join(str(start + place / 2) for place in range(10))


def test_landmarks_are_joined_by_file_and_sighting(tmp_path):
    write_ijba(tmp_path)
    path = tmp_path / 'landmarks.csv'  # found without being named
    lines = [
        f'img/4.jpg,106,{points(3)},0.5',
        f'img/1.JPG,,{points(1)},0.9',  # by the name on disk
        f'img/4.jpg,105,{points(2)},',
        f'img/3.jpg,104{"," * 11}',  # nothing found
        f'img/nobody.jpg,999,{points(9)},1',
    ]
    path.write_text('\n'.join([f'FILE,SIGHTING_ID,{POINTS},score', *lines]))
    faces = read_ijba(tmp_path, **BOTH).faces
    index = {key: place for place, key in enumerate(faces.keys.tolist())}
    assert faces.landmarks[index['img/1.jpg']].ravel().tolist() == [1 + place / 2 for place in range(10)]
    assert faces.landmarks[index['img/4.jpg#105'], 0].tolist() == [2, 2.5]
    assert faces.landmarks[index['img/4.jpg#106'], 4].tolist() == [7, 7.5]
    assert np.isfinite(faces.landmarks).all((1, 2)).sum() == 3
    assert faces.scores[index['img/4.jpg#106']] == 0.5 and np.isnan(faces.scores[index['img/4.jpg#105']])
    path.write_text(f'KEY,{POINTS}\nimg/4.jpg#106,{points(3)}\n')
    assert read_ijba(tmp_path, landmarks=path, **BOTH).faces.landmarks[index['img/4.jpg#106'], 4].tolist() == [7, 7.5]


@pytest.mark.parametrize(
    ('header', 'line', 'message'),
    [
        ('FILE', 'img/4.jpg', "row 2, column FILE: found 'img/4.jpg'; this file has several faces.*SIGHTING_ID"),
        ('FILE', '1.jpg', "none of the 1 rows is of a face of the protocol, whose first is 'img/1.jpg'"),
        ('KEY', f'img/1.jpg,{points(0)}\nimg/1.jpg', 'row 3, column KEY: .*row 2 is of the same face'),
        ('NAME', 'img/1.jpg', 'no column KEY and none FILE'),
    ],
)
def test_landmarks_that_do_not_fit_are_named(tmp_path, header, line, message):
    write_ijba(tmp_path)
    (tmp_path / 'marks.csv').write_text(f'{header},{POINTS}\n{line},{points(0)}\n')
    with pytest.raises(ConfigError, match=message):
        read_ijba(tmp_path, landmarks=tmp_path / 'marks.csv', **BOTH)
    (tmp_path / 'marks.csv').write_text(f'FILE,{POINTS}\nimg/1.jpg,,{points(0).partition(",")[2]}\n')
    with pytest.raises(ConfigError, match='row 2, column X1: .*must be all filled or all empty'):
        read_ijba(tmp_path, landmarks=tmp_path / 'marks.csv', **BOTH)


def test_the_layout_written_here_is_the_real_one():
    assert len(HEADER.split(',')) == 25 and len(row(1, 7, 'a').split(',')) == 25 and TAIL.count(',') == 15


@pytest.mark.skipif('MMSSKD_IJBA_ROOT' not in os.environ, reason='MMSSKD_IJBA_ROOT names no copy of IJB-A')
def test_counts_of_the_real_files():
    """Measured on the 1:1 lists as NIST distributed them; docs and reference notes have the table."""
    protocol = read_ijba(os.environ['MMSSKD_IJBA_ROOT'])
    rows = [17997, 18715, 17462, 18721, 17749, 16604, 16268, 19097, 17245, 18395]
    templates = [1970, 1952, 1895, 1963, 1920, 1814, 1819, 2040, 1953, 1919]
    subjects = [167, 167, 167, 166, 166, 166, 167, 166, 167, 167]
    pairs = [11787, 11779, 11701, 11779, 11744, 11648, 11652, 11869, 11772, 11752]
    genuine = [1803, 1779, 1722, 1797, 1754, 1648, 1652, 1874, 1780, 1752]
    ones = [split.verification for split in protocol.splits]
    assert [len(one.templates.rows_face) for one in ones] == rows
    assert [len(one.templates) for one in ones] == templates
    assert [len(set(one.templates.subjects.tolist())) for one in ones] == subjects
    assert [len(one.pairs) for one in ones] == pairs
    assert [int(one.genuine.sum()) for one in ones] == genuine
    for number in (2, 3, 9):  # subject 2461 has seven probes and no enrol template
        one = ones[number - 1]
        probes = np.flatnonzero(one.templates.subjects == 2461)
        assert len(probes) == 7 and not np.isin(one.pairs[:, 0], probes).any()
    if all(split.identification for split in protocol.splits):
        gallery = [3000, 3261, 2661, 2894, 2920, 2451, 2912, 3106, 2594]
        probe = [13737, 13983, 13467, 14323, 13566, 12789, 12131, 14601, 13323]
        searches = [split.identification[0] for split in protocol.splits[:9]]
        assert [len(search.gallery.rows_face) for search in searches] == gallery
        assert [len(search.probes.rows_face) for search in searches] == probe
