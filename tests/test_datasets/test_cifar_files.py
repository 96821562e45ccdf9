"""CIFAR files: read in order, with and without labels, and what each mistake in them says."""

import pickle

import numpy as np
import pytest
from helpers import classifier, run_cfg, save_weights, train

from mmsskd.datasets import CIFARFiles
from mmsskd.errors import ConfigError


def write(path, images=6, size=4, **content):
    """A CIFAR batch of ``images`` images, each of one colour that tells its number."""
    data = np.zeros((images, 3, size, size), np.uint8)
    data += np.arange(images, dtype=np.uint8)[:, None, None, None] * 10 + np.arange(3, dtype=np.uint8)[:, None, None]
    content = dict(dict(data=data.reshape(images, -1), labels=[i % 3 for i in range(images)]), **content)
    path.write_bytes(pickle.dumps({key: value for key, value in content.items() if value is not None}))


def nested(depth: int) -> list:
    """Lists of two in lists of two, a few bytes in a file; written out they have 2**depth brackets."""
    value = [1]
    for _ in range(depth):
        value = [value, value]
    return value


def test_cifar_files_are_read_in_order_with_channels_last(tmp_path):
    write(tmp_path / 'data_batch_1')
    write(tmp_path / 'data_batch_2', images=2)
    dataset = CIFARFiles(str(tmp_path), ['data_batch_1', 'data_batch_2'], classes=['a', 'b', 'c'])
    assert len(dataset) == 8 and dataset.CLASSES == ('a', 'b', 'c')
    assert dataset[4]['img'].shape == (4, 4, 3) and dataset[4]['img'][2, 1].tolist() == [42, 41, 40]
    assert [dataset[i]['gt_label'] for i in range(8)] == [0, 1, 2, 0, 1, 2, 0, 1]


def test_cifar_files_take_the_kind_of_label_asked_for(tmp_path):
    write(tmp_path / 'train', labels=None, fine_labels=list(range(6)), coarse_labels=[0] * 6)
    assert CIFARFiles(str(tmp_path), 'train')[5]['gt_label'] == 5
    assert CIFARFiles(str(tmp_path), 'train', label_key='coarse_labels')[5]['gt_label'] == 0


def test_files_written_by_python_2_are_read(tmp_path):
    """The original CIFAR files are of protocol 2, with byte strings; so may copies of them be."""
    data = np.arange(24, dtype=np.uint8).reshape(2, 12)
    (tmp_path / 'train').write_bytes(pickle.dumps(dict(data=data, labels=[0, 1]), protocol=2))
    assert CIFARFiles(str(tmp_path), 'train')[1]['img'][0, 0].tolist() == [20, 16, 12]


def test_transfer_phases_learn_from_cifar_files_without_labels(tmp_path, teacher_path):
    write(tmp_path / 'unlabelled', size=8, labels=None)
    pipeline = [dict(type='PackInputs')]
    dataset = dict(type='mmsskd.CIFARFiles', data_root=str(tmp_path), files='unlabelled', pipeline=pipeline)
    loader = dict(batch_size=3, dataset=dataset, sampler=dict(type='DefaultSampler', shuffle=True))
    model = dict(in_channels=3)
    cfg = run_cfg(tmp_path / 'work', teacher_path, hook=dict(transfer=dict(epochs=1, train_dataloader=loader)))
    cfg.model.teacher = classifier(**model)
    cfg.model.student = classifier(depth=8, **model)
    cfg.model.teacher_checkpoint = save_weights(classifier(**model), tmp_path / 'teacher.pth')
    cfg.model.input_shape = (3, 8, 8)
    write(tmp_path / 'labelled', size=8)
    for part in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
        part.dataset = dict(dataset, files='labelled')
    assert train(cfg).iter == 3 * 2 + 1


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        (dict(labels=[0, 1]), 'holds 6 images but 2 labels'),
        (dict(labels=[0, 1, 2, 3, 0, 1]), 'labels must be 0 to 2, found 3'),
        (dict(labels=[0, 1, 2, -1, 0, 1]), 'labels must be 0 to 2, found -1'),
        (dict(data=np.zeros((6, 50), np.uint8)), r'must be uint8 of shape \(N, 3 \* S \* S\), found uint8 \(6, 50\)'),
        (dict(data=np.zeros((6, 48))), r'found float64 \(6, 48\)'),
        (dict(data=None), r"found the keys \['labels'\]"),
        (dict(labels=[0.5] * 6), 'labels must be 0 to 2, found 0.5'),
        (dict(labels=[[0, 1], [2, 0]] * 3), r'labels must be 0 to 2, found \[0, 1\]'),
        (dict(labels=[nested(60)] * 6), r'found \[\[\[\.\.\.\], \[\.\.\.\]\], \[\[\.\.\.\], \[\.\.\.\]\]\]'),
        (dict(labels=['x' * 30_000_000] * 6), r"found 'x+\.\.\.x+'"),
        (dict(labels=np.array(1)), r'labels must be a list of 6 whole numbers, found array\(1\)'),
        (dict(labels=5), 'labels must be a list of 6 whole numbers, found 5'),
        ({'data': None, 'x' * 30_000_000: 0}, r"found the keys \['labels', 'x+\.\.\.x+'\]"),
    ],
)
def test_arrays_that_do_not_agree_are_named(tmp_path, content, message):
    write(tmp_path / 'train', **content)
    with pytest.raises(ConfigError, match=message) as error:
        CIFARFiles(str(tmp_path), 'train', classes=['a', 'b', 'c'])
    assert len(str(error.value)) < 1000


def test_a_missing_file_and_a_wrong_key_list_what_there_is(tmp_path):
    write(tmp_path / 'train')
    with pytest.raises(ConfigError, match="no file '.*/trian' .* did you mean 'train'"):
        CIFARFiles(str(tmp_path), 'trian')
    write(tmp_path / 'train', **{'x' * 30_000_000: 1})
    with pytest.raises(ConfigError, match="has no 'fine_labels'; did you mean 'labels'") as error:
        CIFARFiles(str(tmp_path), 'train', label_key='fine_labels')
    assert len(str(error.value)) < 1000


def test_a_pickle_that_would_run_code_is_refused(tmp_path):
    class Call:
        def __reduce__(self):
            return (tmp_path.joinpath('harm').mkdir, ())

    (tmp_path / 'train').write_bytes(pickle.dumps(dict(data=Call())))
    with pytest.raises(ConfigError, match=r'cannot read .*\(it names'):
        CIFARFiles(str(tmp_path), 'train')
    assert not (tmp_path / 'harm').exists()
    (tmp_path / 'train').write_bytes(b'c' + b'x' * 30_000_000 + b'\nmkdir\n.')
    with pytest.raises(ConfigError, match=r'cannot read .*\(it names') as error:
        CIFARFiles(str(tmp_path), 'train')
    assert len(str(error.value)) < 1000
    (tmp_path / 'train').write_bytes(b'not a pickle')
    with pytest.raises(ConfigError, match='cannot read'):
        CIFARFiles(str(tmp_path), 'train')
