import numpy as np

from ..errors import ConfigError
from ..registry import DATASETS
from ..utils.quiet import BaseDataset

TRAIN = 1200


@DATASETS.register_module()
class Digits(BaseDataset):
    """Real handwriting that needs no download: the 1,797 digits of 8x8 pixels that scikit-learn carries.

    Source: E. Alpaydin, C. Kaynak, Optical Recognition of Handwritten Digits, UCI Machine Learning Repository, the part written
    by 13 people. The images stand in the order of writing, so a cut by index keeps most writers on one side of it.

    Each item has ``img``, a uint8 array (8, 8) with values 0 to 255, and ``gt_label``, 0 to 9.

    Args:
        split: ``'train'``, the first 1,200 images, or ``'test'``, the other 597.
        indices: Use only the first so many images (an int) or those at these places, as in any MMEngine data set.
        **kwargs: ``pipeline`` and the rest of ``BaseDataset``.

    Raises:
        ConfigError: Another split.

    Example:
        >>> digits = Digits(split='test')
        >>> len(digits), digits[0]['img'].shape
        (597, (8, 8))
    """

    METAINFO = dict(classes=tuple('0123456789'))

    def __init__(self, split: str = 'train', **kwargs):
        if split not in ('train', 'test'):
            raise ConfigError(f"Digits.split must be 'train' or 'test', found {split!r}")
        self.split = split
        super().__init__(ann_file='', test_mode=split == 'test', **kwargs)

    def load_data_list(self) -> list[dict]:
        return [dict(img=image, gt_label=int(label)) for image, label in zip(*digits_of(self.split))]


def digits_of(split: str) -> tuple[np.ndarray, np.ndarray]:
    """Images, uint8 (N, 8, 8), 0 paper to 255 ink, and labels (N,), 0 to 9, of a split."""
    from sklearn.datasets import load_digits  # takes a second: only where they are used

    digits = load_digits()
    part = slice(None, TRAIN) if split == 'train' else slice(TRAIN, None)
    return np.round(digits.images[part] * (255 / 16)).astype(np.uint8), digits.target[part]
