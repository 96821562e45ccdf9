"""Labels of records: scanned in blocks, kept beside the file, and used only while they are those of it."""

import os
import pickle
import zlib

import numpy as np
import pytest
from record_helpers import EXPECTED, LABELS, contents, insightface, jpeg, write_rec

from mmsskd.errors import ConfigError
from mmsskd.face.data import FaceRecordDataset
from mmsskd.face.data.record_labels import load_labels, scan_labels
from mmsskd.face.data.recordio import RecordReader, pack


def test_labels_are_scanned_in_blocks(tmp_path, monkeypatch):
    monkeypatch.setattr('mmsskd.face.data.record_labels.BLOCK', 7)
    labels = [number // 3 for number in range(50)]
    labels, has_image = scan_labels(RecordReader(write_rec(tmp_path / 'a.rec', insightface(labels))))
    assert labels[:50].tolist() == [number // 3 for number in range(50)]
    assert has_image.tolist() == [True] * 50 + [False] * 18


def test_labels_are_kept_until_the_file_changes(folder, monkeypatch, said):
    assert contents(FaceRecordDataset(str(folder))) == EXPECTED
    cache = folder / 'train.rec.labels.npy'
    assert np.load(cache).dtype == np.int32 and not list(folder.glob('*.part'))

    def refuse(_):
        raise AssertionError('scanned again')

    with monkeypatch.context() as patch:
        patch.setattr('mmsskd.face.data.record_labels.scan_labels', refuse)
        assert contents(FaceRecordDataset(str(folder))) == EXPECTED
        kept = cache.read_bytes()
        for damaged in (b'', kept[:90], b'junk' * 50, pickle.dumps([1]), kept[:-4]):
            cache.write_bytes(damaged)
            with pytest.raises(AssertionError, match='scanned again'):
                FaceRecordDataset(str(folder))
        cache.write_bytes(kept)
        os.utime(folder / 'train.rec', ns=(1, 1))
        with pytest.raises(AssertionError, match='scanned again'):
            FaceRecordDataset(str(folder))
    FaceRecordDataset(str(folder))  # mends the cache
    lines = (folder / 'train.idx').read_text().splitlines()
    (folder / 'train.idx').write_text('\n'.join(reversed(lines)))  # the same file in another order
    assert contents(FaceRecordDataset(str(folder))) == EXPECTED[::-1]


def test_a_folder_that_cannot_be_written_to_serves_without_the_cache(folder, monkeypatch, said):
    def refuse(*_):
        raise PermissionError('read-only')

    monkeypatch.setattr('mmsskd.face.data.record_labels.os.replace', refuse)
    assert contents(FaceRecordDataset(str(folder))) == EXPECTED
    assert len(said) == 1 and 'cannot be kept for later runs, each will read the whole file (read-only)' in said[0]
    assert sorted(os.listdir(folder)) == ['property', 'train.idx', 'train.rec']


@pytest.mark.parametrize('label', [-1, float('nan'), float('inf'), 0.5, 2**24])
def test_labels_that_are_no_numbers_of_people_are_refused(tmp_path, label):
    write_rec(tmp_path / 'train.rec', {1: pack(0, jpeg(10)), 5: pack((label, 1), jpeg(20)), 6: pack((-1, -1))})
    with pytest.raises(ConfigError, match=r'key 5 at byte \d+: labels must be .* 0 to 16777215.*\(1 of 2 images'):
        FaceRecordDataset(str(tmp_path))
    assert not list(tmp_path.glob('*.npy'))


def test_labels_of_a_cache_that_no_check_preceded_are_not_used(folder, said):
    """Versions before this check kept labels of an index with lines missing."""
    lines = (folder / 'train.idx').read_text().splitlines()
    (folder / 'train.idx').write_text('\n'.join(lines[:2] + lines[3:]))
    reader = RecordReader(folder / 'train.rec')
    state = os.stat(reader.path)
    key = np.array([1, state.st_size, state.st_mtime_ns, zlib.crc32(reader.offsets)], '<i8').view('<i4')
    np.save(folder / 'train.rec.labels.npy', np.concatenate([key, np.zeros(len(reader), np.int32)]))
    with pytest.raises(ConfigError, match='does not account for all of'):
        FaceRecordDataset(str(folder))


def test_the_cache_serves_the_labels_that_a_scan_finds(folder):
    reader = RecordReader(folder / 'train.rec')
    scanned, unwritten = load_labels(reader)
    cached, _ = load_labels(reader)
    assert scanned.tolist() == cached.tolist() == [*LABELS, -1, -1, -1, -1] and not unwritten
