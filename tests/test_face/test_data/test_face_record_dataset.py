"""Faces of RecordIO as a data set: which records count, labels, their cache, workers, and what MMEngine does with data sets."""

import copy
import os
import struct

import cv2
import numpy as np
import pytest
from mmengine.dataset import ConcatDataset
from mmengine.registry import DATASETS, DefaultScope
from mmengine.runner import Runner
from record_helpers import EXPECTED, LABELS, contents, grey, insightface, jpeg, write_rec
from torch.utils.data import DataLoader, Subset

from mmsskd.errors import ConfigError
from mmsskd.face.data import FaceRecordDataset
from mmsskd.face.data.record_labels import scan_labels
from mmsskd.face.data.recordio import MAGIC_BYTES, RecordReader, pack


def test_images_are_blue_first_and_their_person_is_the_first_label(folder, said):
    red = np.zeros((16, 12, 3), np.uint8)
    red[..., 2] = 255
    write_rec(folder / 'red.rec', {0: pack((3, 1), cv2.imencode('.png', red)[1].tobytes()), 1: pack(1, jpeg(9))})
    item = FaceRecordDataset(str(folder), 'red.rec')[0]
    assert item['img'].dtype == np.uint8 and item['img'][0, 0].tolist() == [0, 0, 255]
    assert item['img'].shape == (16, 12, 3) and item['img_shape'] == item['ori_shape'] == (16, 12)
    assert item['gt_label'] == 3 and type(item['gt_label']) is int and item['sample_idx'] == 0


def test_header_and_identities_are_left_out(folder, said):
    dataset = FaceRecordDataset(str(folder))
    assert contents(dataset) == EXPECTED and len(dataset) == 6 and dataset.num_classes == 3 and not said
    assert dataset[-1]['sample_idx'] == 5 and dataset.get_cat_ids(3) == [2]
    assert dataset.get_gt_labels().tolist() == LABELS
    assert 'Number of people: \t3' in repr(dataset) and 'train.rec' in repr(dataset)


@pytest.mark.parametrize('count', [(2, 3), (1e9, 1e9), (17_091_657.0, 17_451_889.0), (float('nan'), -1)])
def test_a_header_that_lies_about_the_count_changes_nothing(folder, count, said):
    """Beyond 2**24 an honest header cannot tell the truth: its float32 holds 17,091,656."""
    write_rec(folder / 'train.rec', insightface(LABELS, count))
    assert contents(FaceRecordDataset(str(folder))) == EXPECTED


@pytest.mark.parametrize('first', [(0, 1), 0, (0,), (0, 5, 6)])
def test_an_image_at_key_0_is_an_image_whatever_its_flag(tmp_path, first, said):
    """As im2rec and InsightFace's RecBuilder write: no header, images from key 0, with one label or a list."""
    write_rec(tmp_path / 'train.rec', {0: pack(first, jpeg(50)), 1: pack(1, jpeg(60)), 2: pack((1, 1), jpeg(70))})
    assert contents(FaceRecordDataset(str(tmp_path))) == [(50, 0), (60, 1), (70, 1)]


def test_shuffled_records_keep_their_labels(tmp_path, said):
    payloads = insightface(LABELS)
    write_rec(tmp_path / 'train.rec', {key: payloads[key] for key in (4, 9, 2, 6, 0, 1)})
    assert contents(FaceRecordDataset(str(tmp_path))) == [(40, 2), (20, 0), (60, 2), (10, 0)]


def test_an_image_that_holds_the_magic_number_is_put_together(tmp_path, said):
    """Also where the header itself is cut: an id may be the magic number."""
    tail = jpeg(80) + b'\0' * (-len(jpeg(80)) % 4) + MAGIC_BYTES + b'end'  # decoders ignore what follows the image
    awkward = struct.pack('<IfQQ2f', 2, 0, int.from_bytes(MAGIC_BYTES * 2, 'little'), 0, 4, 1) + tail
    write_rec(tmp_path / 'train.rec', {7: awkward, 8: pack(5, tail), 9: pack(6, jpeg(90))})
    reader = RecordReader(tmp_path / 'train.rec')
    assert scan_labels(reader)[0].tolist() == [4, 5, 6] and reader.read(0) == awkward
    assert contents(FaceRecordDataset(str(tmp_path))) == [(80, 4), (80, 5), (90, 6)]


@pytest.mark.parametrize(
    ('payload', 'message'),
    [
        (struct.pack('<IfQQ', 9, 0, 0, 0) + b'1234', 'key 5 at byte .*9 labels take 60 bytes, but the record holds 28'),
        (b'short', 'key 5 at byte .*0 labels take 24 bytes, but the record holds 5'),
    ],
)
def test_damaged_payloads_are_named_before_training(tmp_path, payload, message):
    write_rec(tmp_path / 'train.rec', {1: pack(0, jpeg(10)), 5: payload})
    with pytest.raises(ConfigError, match=message):
        FaceRecordDataset(str(tmp_path))


def test_damage_before_the_last_record_is_named_before_training(folder):
    content = bytearray((folder / 'train.rec').read_bytes())
    place = int((folder / 'train.idx').read_text().splitlines()[3].split('\t')[1])
    content[place : place + 4] = b'junk'
    (folder / 'train.rec').write_bytes(content)
    with pytest.raises(ConfigError, match=f'key 4 at byte {place}: no record begins there'):
        FaceRecordDataset(str(folder))


def test_an_index_that_points_into_a_record_is_named_before_training(tmp_path):
    write_rec(tmp_path / 'train.rec', {1: pack(0, MAGIC_BYTES + bytes(60)), 2: pack(1, jpeg(20))})
    last = (tmp_path / 'train.idx').read_text().splitlines()[1]
    (tmp_path / 'train.idx').write_text(f'1\t32\n{last}\n')
    with pytest.raises(ConfigError, match=r'but 32 of the .* 32 before the first \(.*key 1 at byte 32'):
        FaceRecordDataset(str(tmp_path))
    (tmp_path / 'train.idx').write_text(f'0\t0\n1\t32\n{last}\n')
    with pytest.raises(ConfigError, match='key 1 at byte 32: at byte 32 is a part of kind 3, where 0 or 1 must be'):
        FaceRecordDataset(str(tmp_path))


@pytest.mark.parametrize('order', [1, -1])
@pytest.mark.parametrize('lost', [(1,), (3, 4), (0, 5, 6)])
def test_an_index_with_lines_missing_is_named_before_training(folder, said, lost, order):
    """A gap holds whole records, which no header in the index accounts for; the first ones and the last ones are the reader's."""
    lines = (folder / 'train.idx').read_text().splitlines()
    offsets = [int(line.split('\t')[1]) for line in lines] + [os.path.getsize(folder / 'train.rec')]
    missing = sum(offsets[place + 1] - offsets[place] for place in lost)
    kept = [line for place, line in enumerate(lines) if place not in lost]
    (folder / 'train.idx').write_text('\n'.join(kept[::order]))
    places = 1 if 0 not in lost else r'\d'
    with pytest.raises(ConfigError) as error:
        FaceRecordDataset(str(folder))
    if lost[0]:
        assert f'{missing} bytes in {places} places are in no record that it names' in str(error.value)
        assert f'begins at byte {offsets[lost[-1] + 1]}. Copy both again' in str(error.value)
    else:
        assert f'{offsets[1]} before the first' in str(error.value)
    assert not list(folder.glob('*.npy'))


def test_a_gap_behind_a_record_of_several_parts_is_found(tmp_path, said):
    awkward = pack(0, jpeg(20) + b'\0' * (-len(jpeg(20)) % 4) + MAGIC_BYTES + b'end')
    write_rec(tmp_path / 'train.rec', {0: awkward, 1: awkward, 2: awkward, 3: pack(0, jpeg(30))})
    assert len(FaceRecordDataset(str(tmp_path))) == 4
    lines = (tmp_path / 'train.idx').read_text().splitlines()
    (tmp_path / 'train.idx').write_text('\n'.join(lines[:1] + lines[2:]))
    with pytest.raises(ConfigError, match='bytes in 1 places are in no record'):
        FaceRecordDataset(str(tmp_path))


def test_bytes_that_are_no_image_are_named_with_key_and_offset(tmp_path, said):
    write_rec(tmp_path / 'train.rec', {1: pack(0, jpeg(10)), 5: pack(1, b'\xff\xd8 no image')})
    dataset = FaceRecordDataset(str(tmp_path))
    assert grey(dataset[0]) == 10
    with pytest.raises(
        ConfigError, match=r'key 5 at byte \d+: no image that OpenCV can decode, but 11 bytes.*ff d8 20'
    ):
        dataset[1]


def test_files_without_images_and_missing_files(tmp_path):
    write_rec(tmp_path / 'train.rec', {0: pack((1, 2)), 1: pack((0, 0))})
    with pytest.raises(ConfigError, match='none of its 2 records holds an image'):
        FaceRecordDataset(str(tmp_path))
    with pytest.raises(ConfigError, match=r'no file .*val.rec.*Candidates: train.rec'):
        FaceRecordDataset(str(tmp_path), 'val.rec')


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        ('4,16,16\n', 'property. says 4 people, the records of .* hold 3'),
        ('2,16,16\n6\n', 'says 2 people, the records of .* hold 3'),
        ('3,16,16\n7\n', 'says 7 images, the records of .* hold 6'),
        ('9' * 999, r'says 9{20} people'),
    ],
)
def test_a_property_file_of_another_set_is_refused(folder, said, content, message):
    (folder / 'property').write_text(content)
    with pytest.raises(ConfigError, match=message):
        FaceRecordDataset(str(folder))
    (folder / 'property').write_text('3,16,16\n6\n')
    assert len(FaceRecordDataset(str(folder))) == 6 and not said


@pytest.mark.parametrize('content', ['', 'no numbers'])
def test_a_property_file_that_says_nothing_is_warned_of(folder, said, content):
    (folder / 'property').write_text(content)
    assert FaceRecordDataset(str(folder)).num_classes == 3
    assert len(said) == 1 and 'does not begin with the number of people' in said[0]


@pytest.mark.parametrize(
    ('indices', 'expected'), [(2, [0, 1]), (-2, [4, 5]), ([5, 0, 0], [5, 0, 0]), (range(1, 4), [1, 2, 3]), (0, [])]
)
def test_indices_and_subsets(folder, said, indices, expected):
    expected = [EXPECTED[place] for place in expected]
    dataset = FaceRecordDataset(str(folder), indices=indices)
    assert contents(dataset) == expected and len(dataset) == len(expected)
    assert dataset.num_classes == 3  # of all images, whatever part is used
    if indices:
        whole = FaceRecordDataset(str(folder))
        assert contents(whole.get_subset(indices)) == expected and len(whole) == 6
        whole.get_subset_(indices)
        assert contents(whole) == expected


def test_indices_beyond_the_images_are_an_error(folder, said):
    with pytest.raises(ConfigError, match=r'indices: .*holds 6 images: index 6 is out of bounds'):
        FaceRecordDataset(str(folder), indices=[0, 6])


def test_a_part_shares_its_arrays(folder, said):
    dataset = FaceRecordDataset(str(folder))
    other = copy.deepcopy(dataset)
    assert other.data_list.reader.offsets is dataset.data_list.reader.offsets
    assert dataset.data_list.places.itemsize + dataset.data_list.labels.itemsize == 8


@pytest.mark.parametrize(('method', 'workers'), [('fork', 2), pytest.param('spawn', 1, marks=pytest.mark.slow)])
def test_workers_read_what_the_main_process_reads(folder, said, method, workers):
    """Workers that are started after the main process has read from the file."""
    dataset = FaceRecordDataset(str(folder), lazy_init=method == 'fork')
    assert grey(dataset[0]) == 10
    few = Subset(dataset, [5, 1, 3, 0])
    loader = DataLoader(few, 1, num_workers=workers, multiprocessing_context=method, collate_fn=list)
    assert [(grey(item), item['gt_label']) for batch in loader for item in batch] == [EXPECTED[i] for i in (5, 1, 3, 0)]
    assert contents(dataset) == EXPECTED


def test_a_loader_of_mmengine_takes_it(folder):
    pipeline = [dict(type='mmsskd.AlignFace', size=16), dict(type='RandomFlip', prob=0.5), dict(type='PackInputs')]
    dataset = dict(type='mmsskd.FaceRecordDataset', data_root=str(folder), pipeline=pipeline)
    cfg = dict(batch_size=4, num_workers=0, dataset=dataset, sampler=dict(type='DefaultSampler', shuffle=True))
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        loader = Runner.build_dataloader(cfg, seed=0)
        batches = list(loader)
    assert [len(batch['inputs']) for batch in batches] == [4, 2] and tuple(batches[0]['inputs'][0].shape) == (3, 16, 16)
    labels = [int(sample.gt_label) for batch in batches for sample in batch['data_samples']]
    assert sorted(labels) == LABELS and batches[0]['data_samples'][0].img_shape == (16, 16)


def test_it_is_concatenated_and_its_pipeline_can_be_swapped(folder, said):
    dataset = FaceRecordDataset(str(folder), test_mode=True)
    both = ConcatDataset([dataset, FaceRecordDataset(str(folder), indices=1, lazy_init=True)])
    assert len(both) == 7 and grey(both[6]) == 10
    dataset.pipeline = lambda item: item['gt_label']
    assert dataset[5] == 2


def test_a_pipeline_that_loads_files_is_refused(folder):
    with (
        DefaultScope.overwrite_default_scope('mmpretrain'),
        pytest.raises(ConfigError, match='take LoadImageFromFile out of its pipeline'),
    ):
        DATASETS.build(
            dict(type='mmsskd.FaceRecordDataset', data_root=str(folder), pipeline=[dict(type='LoadImageFromFile')])
        )


def test_a_head_for_fewer_people_is_noticed_before_training(folder, said):
    from types import SimpleNamespace

    from torch import nn

    from mmsskd.distill.schedule.data_checks import check_data, other_classes

    model = nn.Module()
    model.head = nn.Module()
    model.head.num_classes = 2
    dataset = FaceRecordDataset(str(folder))
    assert other_classes(model, dataset) == 'head for 2 classes, the data set has 3'
    runner = SimpleNamespace(val_loop=None, logger=None)
    phase = SimpleNamespace(train_dataloader=None)
    with pytest.raises(ConfigError, match='3 classes, but model.student.head is made for 2'):
        check_data(
            runner, [phase], [SimpleNamespace(dataset=dataset)], SimpleNamespace(student=model, teacher_classes=None)
        )
