"""The index of a record file: read in any form, made where it is missing, refused where it is not that of the file."""

import os

import pytest
from record_helpers import insightface, read_all, write_rec

from mmsskd.errors import ConfigError
from mmsskd.face.data.recordio import MAGIC_BYTES, RecordReader, pack


def test_an_index_in_any_order_with_gaps_and_crlf_is_read(tmp_path):
    path = write_rec(tmp_path / 'a.rec', {0: b'first', 1: b'second', 2: b'third'})
    (tmp_path / 'a.idx').write_bytes(b'900\t32\r\n7\t0\r\n40\t16')  # the last line without its end
    reader = RecordReader(path)
    assert reader.keys.tolist() == [900, 7, 40] and read_all(reader) == [b'third', b'first', b'second']


def test_an_index_of_many_blocks_is_whole(tmp_path, monkeypatch):
    payloads = {key: b'%d' % key for key in range(500)}
    path = write_rec(tmp_path / 'a.rec', payloads)
    for size in (1, 7, 64, 4096):
        monkeypatch.setattr('mmsskd.face.data.record_index.BLOCK', size)
        reader = RecordReader(path)
        assert reader.keys.tolist() == list(payloads) and read_all(reader) == list(payloads.values())


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('0\t0\n1 12\n', r"line 2: expected key<TAB>offset, two whole numbers, found '1 12'"),
        ('0\t0\n\n1\t12\n', r"line 2: .* found ''"),
        ('0\t0\n1\t-12\n', 'line 2'),
        ('0\t0\n1\t1e3\n', 'line 2'),
        ('0\t0\n1\t12\t5\n', 'line 2'),
        ('0\t0\n1\t99999999999999999999\n', 'line 2'),
        ('<html>not found</html>', 'line 1'),
        ('', 'is empty'),
        ('4\t0\n4\t12\n', 'names the key 4 2 times'),
        ('0\t0\n8\t4096\n9\t8192\n', r'key 9 at byte 8192: the file ends at byte 24, so 2 of the 3 records'),
        (
            '0\t0\n1\t4\n',
            r'key 1 at byte 4: no record begins there: at byte 4 is 0x00000003, not the magic number 0xced7230a',
        ),
        ('0\t0\n1\t999999999999999999\n', 'the file ends at byte 24, so 1 of the 2'),
    ],
)
def test_a_wrong_index_is_named(tmp_path, text, message):
    path = write_rec(tmp_path / 'a.rec', {0: b'one', 1: b'two'})
    (tmp_path / 'a.idx').write_text(text)
    with pytest.raises(ConfigError, match=message):
        RecordReader(path)


@pytest.mark.parametrize(
    ('keep', 'message'),
    [
        (
            lambda lines: lines[:-1],
            '9 records, but 40 of the .* 0 before the first .* 40 after the last .*key 8 at byte',
        ),
        (lambda lines: lines[:3], r'3 records, but \d+ of the'),
        (lambda lines: lines[1:], r'9 records, but \d+ of the .* 0 after the last'),
        (
            lambda lines: [line.split('\t')[0] + '\t0' for line in lines],
            r'10 records, but \d+ of the .* after the last',
        ),
        (
            lambda lines: [*lines, '77\t' + lines[4].split('\t')[1]],
            r'has the offset \d+ 2 times, 10 different ones for 11',
        ),
        (lambda lines: [lines[0], *lines[2:], '\n'], None),  # a gap in the middle is found by who reads the labels
        (lambda lines: [*lines, '', '\n'], None),
    ],
)
def test_an_index_of_a_part_of_the_file_is_refused(tmp_path, keep, message):
    path = write_rec(tmp_path / 'a.rec', insightface([0, 0, 1, 2, 2, 2]))
    index = tmp_path / 'a.idx'
    index.write_text('\n'.join(keep(index.read_text().splitlines())))
    if message is None:
        assert len(RecordReader(path)) in (9, 10)
        return
    with pytest.raises(ConfigError, match=message):
        RecordReader(path)


def test_a_missing_index_is_made_and_kept(tmp_path):
    payloads = insightface([0, 0, 1])
    payloads[2] = pack((0, 1), b'abcd' + MAGIC_BYTES + b'efgh', 2)
    path = write_rec(tmp_path / 'a.rec', payloads)
    before = (tmp_path / 'a.idx').read_bytes()
    (tmp_path / 'a.idx').unlink()
    with pytest.warns(UserWarning, match='has no index: made one of 6 records'):
        reader = RecordReader(path)
    assert reader.keys.tolist() == [1, 2, 3, 0, 4, 5]  # from the images' headers
    assert (tmp_path / 'a.idx').read_bytes() == before and read_all(reader) == list(payloads.values())
    assert sorted(os.listdir(tmp_path)) == ['a.idx', 'a.rec']


def test_records_that_do_not_tell_their_keys_are_numbered(tmp_path):
    path = write_rec(tmp_path / 'a.rec', {5: b'short', 6: pack(0, b'x', 3), 7: pack(0, b'y', 3)})
    (tmp_path / 'a.idx').unlink()
    with pytest.warns(UserWarning):
        assert RecordReader(path).keys.tolist() == [0, 1, 2]
    path = write_rec(tmp_path / 'b.rec', {5: b'short', 6: pack(0, b'x', 3), 7: pack(0, b'y', 4)})
    (tmp_path / 'b.idx').unlink()
    with pytest.warns(UserWarning):
        assert RecordReader(path).keys.tolist() == [0, 1, 2]


def test_where_the_index_cannot_be_kept_it_is_used_all_the_same(tmp_path, monkeypatch):
    path = write_rec(tmp_path / 'a.rec', {0: b'one'})
    (tmp_path / 'a.idx').unlink()

    def refuse(*_):
        raise PermissionError('read-only')

    monkeypatch.setattr('mmsskd.face.data.recordio.write_idx', refuse)
    with pytest.warns(UserWarning, match=r'cannot be kept for later runs \(read-only\)'):
        assert read_all(RecordReader(path)) == [b'one']
