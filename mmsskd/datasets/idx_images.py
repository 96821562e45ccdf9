import gzip
from pathlib import Path

import numpy as np

from ..errors import ConfigError, candidates
from ..registry import DATASETS
from ..utils.quiet import BaseDataset

UINT8 = 8  # the code of the type in an idx file


@DATASETS.register_module()
class IdxImages(BaseDataset):
    """Images and labels in idx files, as MNIST, Fashion-MNIST, EMNIST and others come, packed with gzip or not.

    The format: http://yann.lecun.com/exdb/mnist/ (two zero bytes, type, number of dimensions, the sizes as big-endian int32, the
    values). The files stay in memory as they are; items are views.

    Each item has ``img``, a uint8 array (H, W) with values 0 to 255, and ``gt_label``, a whole number from 0.

    Args:
        images: idx file of uint8 images (N, H, W); with or without ``.gz``, whichever is there.
        labels: idx file of N labels.
        data_root: Folder of both.
        indices: Only the first so many images (an int), the last so many (a negative int), or those at these places, as in any
            MMEngine data set.
        **kwargs: ``pipeline``, ``metainfo=dict(classes=...)`` and the rest of ``BaseDataset``.

    Raises:
        ConfigError: A file is missing, is no idx file of the kind, is cut off, or the two do not belong together.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     images = Path(folder, 'images').write_bytes(bytes([0, 0, 8, 3, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 2, 5, 6, 7, 8]))
        ...     labels = Path(folder, 'labels').write_bytes(bytes([0, 0, 8, 1, 0, 0, 0, 1, 9]))
        ...     item = IdxImages('images', 'labels', data_root=folder)[0]
        >>> item['img'].tolist(), item['gt_label']
        ([[5, 6], [7, 8]], 9)
    """

    def __init__(self, images: str, labels: str, data_root: str = '', serialize_data: bool = False, **kwargs):
        self.images, self.labels = images, labels
        super().__init__(ann_file='', data_root=data_root, serialize_data=serialize_data, **kwargs)

    def load_data_list(self) -> list[dict]:
        images = read_idx(Path(self.data_root) / self.images, dimensions=3)
        labels = read_idx(Path(self.data_root) / self.labels, dimensions=1)
        if len(images) != len(labels):
            raise ConfigError(
                f'{self.images} has {len(images)} images, {self.labels} has {len(labels)} labels; name two files of one set'
            )
        return [dict(img=image, gt_label=int(label)) for image, label in zip(images, labels)]


def read_idx(path: Path, dimensions: int) -> np.ndarray:
    """The uint8 array in the idx file at ``path``, or at ``path`` with ``.gz``.

    Raises:
        ConfigError: The file is missing, of another type or number of dimensions, or cut off.
    """
    found = next((file for file in (path, path.with_name(f'{path.name}.gz')) if file.is_file()), None)
    if found is None:
        near = sorted(file.name for file in path.parent.glob('*')) if path.parent.is_dir() else []
        raise ConfigError(f'no file {path} or {path.name}.gz; {candidates(path.name, near)}')
    try:
        data = found.read_bytes()
        if data[:2] == b'\x1f\x8b':
            data = gzip.decompress(data)
    except (OSError, EOFError) as error:
        raise ConfigError(f'{found} cannot be unpacked: {error}; is the download complete?') from error
    if data[:4] != bytes([0, 0, UINT8, dimensions]):
        raise ConfigError(
            f'{found} is no idx file of uint8 with {dimensions} dimensions: it begins with {data[:4].hex(" ") or "nothing"}'
        )
    shape = tuple(int(n) for n in np.frombuffer(data, '>i4', dimensions, offset=4))
    begin = 4 + 4 * dimensions
    if len(data) - begin != np.prod(shape, dtype=np.int64):
        raise ConfigError(f'{found} says {shape}, but has {len(data) - begin} values; is the download complete?')
    return np.frombuffer(data, np.uint8, offset=begin).reshape(shape)
