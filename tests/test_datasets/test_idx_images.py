"""IDX files of the MNIST family, packed or not."""

import gzip

import numpy as np
import pytest

from mmsskd.datasets import IdxImages
from mmsskd.errors import ConfigError


def idx(path, values, packed=False, cut=0):
    """Write a uint8 array as an idx file."""
    content = (
        bytes([0, 0, 8, values.ndim]) + np.array(values.shape, '>i4').tobytes() + values.astype(np.uint8).tobytes()
    )
    content = gzip.compress(content) if packed else content
    path.write_bytes(content[: len(content) - cut])


@pytest.fixture
def idx_files(tmp_path):
    images = np.arange(5 * 4 * 3).reshape(5, 4, 3)
    idx(tmp_path / 'images', images)
    idx(tmp_path / 'labels.gz', np.array([3, 1, 4, 1, 5]), packed=True)
    return tmp_path, images


def test_idx_files_packed_or_not(idx_files):
    folder, images = idx_files
    dataset = IdxImages('images', 'labels', data_root=str(folder))
    assert len(dataset) == 5 and [dataset[i]['gt_label'] for i in range(5)] == [3, 1, 4, 1, 5]
    assert all(np.array_equal(dataset[i]['img'], images[i]) for i in range(5))
    last = IdxImages('images', 'labels', data_root=str(folder), indices=-2)
    assert [last[i]['gt_label'] for i in range(len(last))] == [1, 5]


def test_idx_files_that_cannot_be_used_are_named(idx_files):
    folder, images = idx_files

    def message(images='images', labels='labels'):
        with pytest.raises(ConfigError) as error:
            IdxImages(images, labels, data_root=str(folder))
        return str(error.value)

    assert 'image.gz' in message('image') and 'images' in message('image')
    assert 'uint8 with 3 dimensions' in message('labels')
    idx(folder / 'short', images, cut=7)
    assert '(5, 4, 3), but has 53 values' in message('short')
    idx(folder / 'torn.gz', images, packed=True, cut=9)
    assert 'cannot be unpacked' in message('torn')
    idx(folder / 'four', images[:4])
    assert 'four has 4 images, labels has 5 labels' in message('four')
    (folder / 'empty').write_bytes(b'')
    assert 'begins with nothing' in message('empty')
