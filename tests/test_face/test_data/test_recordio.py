"""RecordIO: bytes as the format says, every way in which a file can be damaged, processes that share a reader."""

import multiprocessing
import os
import pickle
import struct

import numpy as np
import pytest
from record_helpers import jpeg, put_records, raw_record, read_all, write_rec

from mmsskd.errors import ConfigError
from mmsskd.face.data.recordio import MAGIC_BYTES, RecordReader, RecordWriter, pack, unpack

M = MAGIC_BYTES
AWKWARD = [
    b'', b'a', b'abcd', M, M + M, M + b'abcd' + M, b'ab' + M + b'cdef', b'abcd' + M + b'e', b'abcd' + M, b'abcd' + M[:3],
    M * 5 + b'xyz', bytes(range(256)) * 300,
]  # fmt: skip


def test_any_payload_comes_back(tmp_path):
    reader = RecordReader(write_rec(tmp_path / 'a.rec', dict(enumerate(AWKWARD))))
    assert read_all(reader) == AWKWARD and reader.keys.tolist() == list(range(len(AWKWARD)))
    assert os.path.getsize(tmp_path / 'a.rec') % 4 == 0 and (reader.offsets % 4 == 0).all()


def test_the_bytes_are_those_of_the_format(tmp_path):
    """Cut at the magic number where it is at a multiple of 4, and only there; only the last part is padded."""
    write_rec(tmp_path / 'a.rec', {3: b'abcd' + M + b'efgh' + M + b'i', 9: b'ab' + M, 5: b'xyz'})
    parts = [
        raw_record(b'abcd', 1),
        raw_record(b'efgh', 2),
        raw_record(b'i', 3),
        raw_record(b'ab' + M),
        raw_record(b'xyz'),
    ]
    assert (tmp_path / 'a.rec').read_bytes() == b''.join(parts)
    assert (tmp_path / 'a.rec').read_bytes()[:4] == b'\x0a\x23\xd7\xce'
    assert (tmp_path / 'a.idx').read_text() == f'3\t0\n9\t{12 + 12 + 12}\n5\t{36 + 16}\n'


@pytest.mark.parametrize('labels', [7, (7, 1), (7,), (0.5, 1, 2)])
def test_labels_and_image_come_back(labels):
    found, image = unpack(pack(labels, b'image', key=4))
    assert image == b'image' and found.dtype == np.float32
    assert found.tolist() == list(labels if isinstance(labels, tuple) else [labels])


def test_header_is_24_bytes_and_names_the_key():
    assert pack(7, b'x', 9) == struct.pack('<IfQQ', 0, 7, 9, 0) + b'x'
    assert pack((7, 1), b'x', 9) == struct.pack('<IfQQff', 2, 0, 9, 0, 7, 1) + b'x'
    with pytest.raises(ConfigError, match='5 labels take 44 bytes, but the record holds 28'):
        unpack(struct.pack('<IfQQf', 5, 0, 0, 0, 1))


def test_every_truncation_is_found(tmp_path):
    """With the index and without; of the last record's padding alone nothing is missed."""
    path = write_rec(tmp_path / 'a.rec', {10: b'one', 11: M.join([b'abcd', b'efgh', b'ij'])})
    content, index = path.read_bytes(), (tmp_path / 'a.idx').read_text()
    for length in range(1, len(content) - 2):
        path.write_bytes(content[:length])
        (tmp_path / 'a.idx').write_text(index)
        with pytest.raises(ConfigError, match=r'key 11 at byte 12.* ends at byte \d+'):
            RecordReader(path)
        (tmp_path / 'a.idx').unlink()
        if length not in (11, 12):  # which is a whole file of one record
            with pytest.raises(ConfigError, match=r'record number \d at byte \d+ is cut off'):
                RecordReader(path)
    path.write_bytes(content[:-2])
    (tmp_path / 'a.idx').write_text(index)
    assert RecordReader(path).read(1).endswith(b'ij')


def test_damage_in_the_middle_is_found_when_it_is_read(tmp_path):
    path = write_rec(tmp_path / 'a.rec', {10: b'one', 11: b'two', 12: b'abcd' + M + b'efgh', 13: b'end'})
    content = bytearray(path.read_bytes())
    content[12:16] = b'junk'
    content[24 + 12 + 7] = 0x20  # the second part now begins another record
    path.write_bytes(content)
    reader = RecordReader(path)
    assert reader.read(0) == b'one'
    with pytest.raises(ConfigError, match='key 11 at byte 12: no record begins there: at byte 12 is 0x6b6e756a'):
        reader.read(1)
    with pytest.raises(ConfigError, match='key 12 at byte 24: at byte 36 is a part of kind 1, where 2 or 3 must be'):
        reader.read(2)
    for place in (1, 2):
        with pytest.raises(ConfigError, match=f'key 1{place} at byte {12 * place}'):
            reader.read_image(place)
    (tmp_path / 'a.idx').unlink()
    with pytest.raises(ConfigError, match='record number 1 at byte 12: no record begins there'):
        RecordReader(path)
    path.write_bytes(raw_record(b'one') + raw_record(b'part', 2) + raw_record(b'end'))
    with pytest.raises(ConfigError, match='record number 1 at byte 12: no record begins there'):
        RecordReader(path)


@pytest.mark.parametrize('size', [0, 1, 90, 20_000, 70_000])
@pytest.mark.parametrize('labels', [3, (3, 1), (3, 1, 4)])
def test_images_of_any_size_are_read_without_their_labels(tmp_path, size, labels):
    """Whether they are read at once or in parts, and whatever lies behind them."""
    image = (bytes(range(256)) * 300)[:size]
    payloads = {0: pack(labels, image), 1: pack(labels, b'ab' + M + image + M), 2: pack(labels, image)}
    path = write_rec(tmp_path / 'a.rec', payloads)
    lines = (tmp_path / 'a.idx').read_text().splitlines()
    for order in ((0, 1, 2), (2, 1, 0), (1, 2, 0)):
        (tmp_path / 'a.idx').write_text('\n'.join(lines[place] for place in order))
        reader = RecordReader(path)
        expected = [[image, b'ab' + M + image + M, image][place] for place in order]
        assert [reader.read_image(place).tobytes() for place in range(3)] == expected
    path.write_bytes(b'junk' + path.read_bytes()[4:])
    with pytest.raises(ConfigError, match='key 0 at byte 0: no record begins there: at byte 0 is 0x6b6e756a'):
        reader.read_image(2)
    with pytest.raises(
        ConfigError, match='key 0 at byte 0: the header and 0 labels take 24 bytes, but the record holds 4'
    ):
        RecordReader(write_rec(tmp_path / 'b.rec', {0: b'tiny'})).read_image(0)


def test_a_file_cut_off_while_it_is_open_is_named(tmp_path):
    path = write_rec(tmp_path / 'a.rec', {0: bytes(100), 1: bytes(40_000)})
    reader = RecordReader(path)
    os.truncate(path, 30_000)
    with pytest.raises(ConfigError, match='key 1 at byte 108 is cut off: 40000 bytes .* ends at byte 30000'):
        reader.read(1)


def test_missing_and_foreign_files(tmp_path):
    write_rec(tmp_path / 'train.rec', {0: b'one'})
    with pytest.raises(ConfigError, match=r"no file .*trian.rec.*did you mean 'train.rec'"):
        RecordReader(tmp_path / 'trian.rec')
    with pytest.raises(ConfigError, match=r'no file .*other.idx'):
        RecordReader(tmp_path / 'train.rec', tmp_path / 'other.idx')
    (tmp_path / 'b.rec').write_bytes(jpeg(1))
    with pytest.raises(ConfigError, match='record number 0 at byte 0: no record begins there'):
        RecordReader(tmp_path / 'b.rec')
    (tmp_path / 'c.rec').touch()
    with pytest.raises(ConfigError, match=r'c.rec. is empty'):
        RecordReader(tmp_path / 'c.rec')


def test_nothing_half_written_stays(tmp_path, monkeypatch):
    path = write_rec(tmp_path / 'a.rec', {0: b'old'})
    with pytest.raises(KeyError), RecordWriter(path) as writer:
        writer.write(0, b'new')
        raise KeyError
    with pytest.raises(ConfigError, match='key of its own'), RecordWriter(path) as writer:
        writer.write(0, b'new')
        writer.write(0, b'newer')
    with monkeypatch.context() as patch:
        patch.setattr('mmsskd.face.data.recordio.MOST', 5)
        with pytest.raises(ConfigError, match='key 8: .* at most 5 bytes, found 6'), RecordWriter(path) as writer:
            writer.write(8, b'longer')
    assert sorted(os.listdir(tmp_path)) == ['a.idx', 'a.rec'] and read_all(RecordReader(path)) == [b'old']


def test_processes_share_a_reader(tmp_path):
    """Two children read while the parent does, each in another order, from a reader that has read before."""
    payloads = [bytes([key % 256]) * (key % 97) for key in range(2000)]
    reader = RecordReader(write_rec(tmp_path / 'a.rec', dict(enumerate(payloads))))
    assert reader.read(5) == payloads[5]
    context = multiprocessing.get_context('fork')  # test_face_record_dataset.py has workers that are spawned
    orders = [range(2000), range(1999, -1, -1)]
    queues = [context.Queue() for _ in orders]
    children = [
        context.Process(target=put_records, args=(reader, order, queue)) for order, queue in zip(orders, queues)
    ]
    for child in children:
        child.start()
    assert read_all(reader) == payloads
    for order, queue, child in zip(orders, queues, children):
        assert queue.get(timeout=60) == [payloads[place] for place in order]
        child.join()


def test_a_pickled_reader_carries_no_open_file(tmp_path):
    reader = RecordReader(write_rec(tmp_path / 'a.rec', {0: b'one', 1: b'two'}))
    open_before = len(os.listdir('/proc/self/fd'))
    reader.read(0)
    copy = pickle.loads(pickle.dumps(reader))
    assert len(os.listdir('/proc/self/fd')) == open_before + 1 and copy.read(1) == b'two'
    copy.close()
    assert copy.read(0) == b'one'
    with pytest.raises(ValueError, match='read-only'):
        reader.offsets[0] = 1
