"""The digits that scikit-learn carries."""

import numpy as np
import pytest

from mmsskd.datasets import Digits
from mmsskd.errors import ConfigError


def test_digits_are_split_by_order_of_writing():
    train_set, test_set = Digits('train', pipeline=()), Digits('test', pipeline=())
    assert (len(train_set), len(test_set)) == (1200, 597)
    sample = train_set[0]
    assert sample['img'].shape == (8, 8) and sample['img'].dtype == np.uint8 and sample['img'].max() > 200
    assert sample['gt_label'] == 0 and ''.join(test_set.CLASSES) == '0123456789'
    with pytest.raises(ConfigError, match="must be 'train' or 'test', found 'val'"):
        Digits('val')
