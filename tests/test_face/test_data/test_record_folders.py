"""folder2rec, rec2folder, bin2folder and the benchmark, as a user runs them."""

import os
import pickle
import runpy
import struct
import sys

import cv2
import numpy as np
import pytest
from helpers import ROOT, warm_python
from record_helpers import claim, insightface, jpeg, write_rec

from mmsskd.face.data import FaceRecordDataset
from mmsskd.face.data.face_bin import pair_protocol_of_bin, read_bin
from mmsskd.face.data.recordio import RecordReader, pack, unpack

TOOLS = ROOT / 'tools' / 'face'


def call(monkeypatch, capsys, tool, *args):
    """Run a tool in this process; returns exit code, standard output and standard error."""
    monkeypatch.setattr(sys, 'argv', [tool, *map(str, args)])
    try:
        runpy.run_path(str(TOOLS / tool), run_name='__main__')
        code = 0
    except SystemExit as stop:
        code = stop.code
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def put(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


@pytest.fixture
def people(tmp_path):
    """Two people: images at two depths, of several formats and sizes, among files and folders that are no faces."""
    folder = tmp_path / 'people'
    put(folder / 'anna' / '1.jpg', jpeg(10))
    put(folder / 'anna' / 'more' / '2.JPG', jpeg(20))
    put(folder / 'bert' / '3.png', jpeg(30, suffix='.png'))
    put(folder / 'bert' / '4.pgm', jpeg(40, suffix='.pgm'))
    put(folder / 'bert' / '5.jpg', jpeg(50, size=(64, 32)))
    put(folder / 'bert' / 'notes.txt', b'no image')
    put(folder / 'bert' / '._5.jpg', b'no image either')
    put(folder / '.git' / '1.jpg', jpeg(60))
    put(folder / 'at the top.jpg', jpeg(70))
    (folder / 'carl').mkdir()
    return folder


def test_folder_to_records_and_back(people, tmp_path, monkeypatch, capsys):
    prefix = tmp_path / 'set' / 'train'
    code, out, error = call(monkeypatch, capsys, 'folder2rec.py', people, prefix, '--size', 16)
    assert code == 0 and 'property: 5 images of 2 people' in out, error
    assert sorted(os.listdir(tmp_path / 'set')) == ['property', 'train.idx', 'train.rec']
    assert (tmp_path / 'set' / 'property').read_text() == '2,16,16\n'

    reader = RecordReader(f'{prefix}.rec')
    assert reader.keys.tolist() == [1, 2, 3, 4, 5, 0, 6, 7]
    records = {key: unpack(reader.read(place)) for place, key in enumerate(reader.keys.tolist())}
    assert [records[key][0].tolist() for key in range(8)] == [
        [6, 8], [0, 1], [0, 1], [1, 1], [1, 1], [1, 1], [1, 3], [3, 6]
    ]  # fmt: skip
    assert records[0][1] == records[6][1] == records[7][1] == b''
    assert struct.unpack_from('<IfQ', reader.read(2)) == (2, 0, 3)
    # what fits is taken as it is, the rest made JPEG: scaled, with black beside what is narrow
    assert records[1][1] == jpeg(10) and records[3][1] == jpeg(30, suffix='.png')
    assert records[4][1].startswith(b'\xff\xd8\xff')
    narrow = cv2.imdecode(np.frombuffer(records[5][1], np.uint8), cv2.IMREAD_COLOR)
    assert (
        narrow.shape == (16, 16, 3) and narrow[:, 6:10].mean() == pytest.approx(50, abs=2) and narrow[:, :3].mean() < 6
    )

    dataset = FaceRecordDataset(str(tmp_path / 'set'))
    assert [(round(item['img'].mean()), item['gt_label']) for item in dataset][:4] == [
        (10, 0),
        (20, 0),
        (30, 1),
        (40, 1),
    ]
    assert dataset.num_classes == 2

    code, out, error = call(monkeypatch, capsys, 'rec2folder.py', f'{prefix}.rec', tmp_path / 'back')
    assert code == 0 and '5 images of 2 people' in out, error
    files = sorted(str(path.relative_to(tmp_path / 'back')) for path in (tmp_path / 'back').rglob('*.*'))
    assert files == ['0/1.jpg', '0/2.jpg', '1/3.png', '1/4.jpg', '1/5.jpg']
    assert (tmp_path / 'back' / '0' / '1.jpg').read_bytes() == jpeg(10)
    again = tmp_path / 'again' / 'train'
    assert call(monkeypatch, capsys, 'folder2rec.py', tmp_path / 'back', again, '--size', 16)[0] == 0
    for suffix in ('.rec', '.idx'):
        assert again.with_suffix(suffix).read_bytes() == prefix.with_suffix(suffix).read_bytes()


def test_each_real_folder_of_faces_is_taken_once(tmp_path, monkeypatch, capsys):
    """Loops, two links to one folder, and a person who is another one's link; a link to what is nowhere else is followed."""
    people = tmp_path / 'people'
    for number, name in enumerate(('anna/1.jpg', 'bert/2.jpg', 'bert/in/3.jpg', '../far/near/4.jpg', '../other/5.jpg')):
        put(people / name, jpeg(10 * number + 10))
    (people / 'bert' / 'loop').symlink_to('..')
    (people / 'bert' / 'self').symlink_to('.')
    (people / 'bert' / 'out').symlink_to('../..')
    (people / 'bert' / 'sibling').symlink_to('../anna')
    (people / 'bert' / 'far').symlink_to('../../far')
    (people / 'anna' / 'near').symlink_to('../../far/near')
    (people / 'aaron').symlink_to('bert')
    (people / 'carl').symlink_to('../other')
    (people / 'carl' / 'more.jpg').symlink_to('../people/anna/1.jpg')
    with pytest.warns(UserWarning, match=r"left out 6 folders: '.*/aaron', .*links lead to what is here already"):
        code, out, error = call(monkeypatch, capsys, 'folder2rec.py', people, tmp_path / 'train', '--size', 16)
    assert code == 0 and '6 images of 3 people' in out, error
    dataset = FaceRecordDataset(str(tmp_path))
    found = [(round(item['img'].mean() / 10), item['gt_label']) for item in dataset]
    assert found == [(1, 0), (4, 0), (2, 1), (3, 1), (5, 2), (1, 2)]


def test_a_photo_that_claims_any_number_of_pixels_is_named(tmp_path, monkeypatch, capsys):
    put(tmp_path / 'people/anna/1.png', claim(jpeg(1, suffix='.png'), 60_000, 60_000))
    code, _, error = call(monkeypatch, capsys, 'folder2rec.py', tmp_path / 'people', tmp_path / 'train')
    assert code == 1 and "people/anna/1.png': its header says 60000 x 60000" in error and '178,956,970' in error
    assert os.listdir(tmp_path) == ['people']


def test_larger_photos_are_averaged_not_sampled(tmp_path, monkeypatch, capsys):
    stripes = np.zeros((48, 48, 3), np.uint8)
    stripes[:, ::2] = 255
    put(tmp_path / 'people' / 'anna' / '1.png', cv2.imencode('.png', stripes)[1].tobytes())
    assert call(monkeypatch, capsys, 'folder2rec.py', tmp_path / 'people', tmp_path / 'train', '--size', 16)[0] == 0
    image = FaceRecordDataset(str(tmp_path))[0]['img']
    assert image.min() > 80 and image.max() < 175  # of three stripes two or one is white


def test_numbers_of_people_sort_as_names(tmp_path, monkeypatch, capsys):
    write_rec(tmp_path / 'train.rec', {key: pack(label, jpeg(1)) for key, label in enumerate([2, 10, 117])})
    assert call(monkeypatch, capsys, 'rec2folder.py', tmp_path / 'train.rec', tmp_path / 'out')[0] == 0
    assert sorted(os.listdir(tmp_path / 'out')) == ['002', '010', '117']


@pytest.mark.parametrize(
    ('args', 'message'),
    [
        (('nowhere', 'x/train'), "no folder 'nowhere'"),
        (('people/anna/more', 'x/train'), 'must hold a folder for each person'),
        (('people', 'x/train', '--quality', 0), 'quality must be 1 to 100'),
        (('broken', 'x/train'), "'broken/dora/1.jpg' cannot be decoded"),
    ],
)
def test_folders_that_give_no_records(people, tmp_path, monkeypatch, capsys, args, message):
    monkeypatch.chdir(tmp_path)
    put(tmp_path / 'broken' / 'anna' / '1.jpg', jpeg(1))
    put(tmp_path / 'broken' / 'dora' / '1.jpg', b'')
    code, _, error = call(monkeypatch, capsys, 'folder2rec.py', *args)
    assert code == 1 and error.startswith('error: ') and message in error and 'Traceback' not in error
    assert not (tmp_path / 'x').exists() or not os.listdir(tmp_path / 'x')


def test_records_that_give_no_folder(tmp_path, monkeypatch, capsys):
    payloads = insightface([0, 1])
    payloads[2] = pack((1, 1), b'BM no JPEG')
    write_rec(tmp_path / 'train.rec', payloads)
    code, _, error = call(monkeypatch, capsys, 'rec2folder.py', tmp_path / 'train.rec', tmp_path / 'out')
    assert code == 1 and 'key 2 at byte' in error and 'neither JPEG nor PNG' in error
    assert not list(tmp_path.glob('out*'))
    put(tmp_path / 'full' / 'file', b'')
    write_rec(tmp_path / 'train.rec', insightface([0, 1]))
    code, _, error = call(monkeypatch, capsys, 'rec2folder.py', tmp_path / 'train.rec', tmp_path / 'full')
    assert code == 1 and 'holds something already' in error and os.listdir(tmp_path / 'full') == ['file']


@pytest.mark.parametrize('kinds', ['in turn', 'sorted', 'uneven'])
def test_bin_to_folder_keeps_pairs(tmp_path, monkeypatch, capsys, kinds):
    from mmsskd.face.evaluation.protocols import file_faults, read_lfw_pairs

    same = np.arange(60) // 3 % 2 == 0
    same = dict(sorted=np.sort(same)[::-1], uneven=np.arange(60) % 5 == 0).get(kinds, same)
    images = [jpeg(number, suffix='.png' if number == 7 else '.jpg') for number in range(120)]
    put(tmp_path / 'own.bin', pickle.dumps((images, same.tolist())))
    code, out, error = call(monkeypatch, capsys, 'bin2folder.py', tmp_path / 'own.bin', tmp_path / 'own')
    assert code == 0 and f'60 pairs, {same.sum()} of them of one person' in out, error
    found = read_lfw_pairs(tmp_path / 'own' / 'pairs.txt', tmp_path / 'own')
    assert not len(file_faults(found)) and len(found.faces) == 120
    contents = [(tmp_path / 'own' / file).read_bytes() for file in found.faces.files]
    pairs = {tuple(contents[face] for face in pair): flag for pair, flag in zip(found.pairs, found.genuine)}
    assert pairs == {(images[2 * i], images[2 * i + 1]): flag for i, flag in enumerate(same)}
    folds = {contents[pair[0]]: fold for pair, fold in zip(found.pairs, found.folds)}
    if kinds == 'in turn':
        expected = pair_protocol_of_bin('own', read_bin(tmp_path / 'own.bin')[1]).folds
        assert [folds[images[2 * i]] for i in range(60)] == expected.tolist()
    else:
        assert np.bincount(found.folds, found.genuine).min() > 0


def test_bin_to_folder_runs_nothing(tmp_path, monkeypatch, capsys):
    class Call:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / 'harm'),))

    put(tmp_path / 'own.bin', pickle.dumps(([jpeg(1)] * 40, Call())))
    code, _, error = call(monkeypatch, capsys, 'bin2folder.py', tmp_path / 'own.bin', tmp_path / 'own')
    assert code == 1 and 'mkdir, which is no data' in error and os.listdir(tmp_path) == ['own.bin']


@pytest.mark.slow
def test_the_benchmark_prints_its_table():
    result = warm_python(TOOLS / 'benchmark_data.py', '--records', 2_000, '--images', 50, '--faces', 20, '--rounds', 1)
    assert result.returncode == 0, result.stderr
    rows = [line for line in result.stdout.splitlines() if line.startswith('| ')]
    for what in (
        'open an index of 2,000 records',
        'read and decode in order',
        'read and decode at random',
        'alignment',
    ):
        assert any(what in row for row in rows), result.stdout
