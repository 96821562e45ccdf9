"""Images of one's own in the Python format of CIFAR."""

import math
import pickle
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..errors import ConfigError, candidates
from ..registry import DATASETS
from ..utils.quiet import BaseDataset
from ..utils.safe_pickle import load_data, shown

LABEL_KEYS = ('labels', 'fine_labels', 'coarse_labels')


@DATASETS.register_module()
class CIFARFiles(BaseDataset):
    """Images of one's own in the Python format of CIFAR (https://www.cs.toronto.edu/~kriz/cifar.html).

    A file is a pickled dict. ``data`` is an array (N, 3 * S * S) of uint8: each row is one square image, all of red, then
    green, then blue. Where there are labels, ``labels``, ``fine_labels`` or ``coarse_labels`` holds N whole numbers from 0.
    Files without labels serve phases without task loss. mmpretrain's ``CIFAR10`` reads only the original files, by their
    checksums.

    Args:
        data_root: Folder of the files.
        files: Name of the file, or names of the files, of this split.
        classes: Class names. Given, labels beyond them are an error.
        label_key: Where a file holds several kinds of labels, which; None: the first of the three above.
        pipeline, test_mode, indices: As for any dataset. Images are (S, S, 3) in the order blue, green, red, as those that
            OpenMMLab reads from files: with ``to_rgb=True`` in the data_preprocessor the network sees both alike.

    Raises:
        ConfigError: A file is missing, unreadable, or its arrays do not agree.

    Example:
        >>> import pickle, tempfile
        >>> content = dict(data=np.zeros((2, 3 * 8 * 8), np.uint8), labels=[0, 1])
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     Path(folder, 'train').write_bytes(pickle.dumps(content)) > 0
        ...     images = CIFARFiles(folder, 'train')
        True
        >>> images[1]['img'].shape, images[1]['gt_label']
        ((8, 8, 3), 1)
    """

    def __init__(
        self,
        data_root: str,
        files: str | Sequence[str],
        pipeline: Sequence = (),
        test_mode: bool = False,
        classes: Sequence[str] | None = None,
        label_key: str | None = None,
        indices: int | Sequence[int] | None = None,
    ):
        self.files = [files] if isinstance(files, str) else list(files)
        self.label_key = label_key
        self.folder = Path(data_root)
        super().__init__(ann_file='', pipeline=pipeline, test_mode=test_mode, classes=classes, indices=indices)

    def load_data_list(self) -> list[dict]:
        return [sample for name in self.files for sample in self._read(name)]

    def _read(self, name: str) -> list[dict]:
        path = self.folder / name
        if not path.is_file():
            near = sorted(file.name for file in self.folder.glob('*') if file.is_file()) if self.folder.is_dir() else []
            raise ConfigError(f'CIFARFiles: no file {str(path)!r} in {Path.cwd()}; {candidates(name, near)}')
        try:
            with path.open('rb') as file:
                content = load_data(file, encoding='latin1')
        except pickle.UnpicklingError as error:
            raise ConfigError(f'CIFARFiles: cannot read {str(path)!r} as a pickled dict of arrays ({error})') from error
        data = content.get('data') if isinstance(content, dict) else None
        size = math.isqrt(data.shape[1] // 3) if isinstance(data, np.ndarray) and data.ndim == 2 else 0
        if not size or data.shape[1] != 3 * size * size or data.dtype != np.uint8:
            keys = f'the keys {shown(list(content))}' if isinstance(content, dict) else type(content).__name__
            found = f'{data.dtype} {data.shape}' if isinstance(data, np.ndarray) else keys
            raise ConfigError(f"CIFARFiles: {str(path)!r}: 'data' must be uint8 of shape (N, 3 * S * S), found {found}")
        images = np.ascontiguousarray(data.reshape(-1, 3, size, size)[:, ::-1].transpose(0, 2, 3, 1))
        labels = self._labels(content, path, len(images))
        if labels is None:
            return [dict(img=image) for image in images]
        return [dict(img=image, gt_label=label) for image, label in zip(images, labels)]

    def _labels(self, content: dict, path: Path, count: int) -> list[int] | None:
        keys = [self.label_key] if self.label_key else [key for key in LABEL_KEYS if key in content][:1]
        if not keys:
            return None
        if keys[0] not in content:
            there = [key[:60] for key in content if isinstance(key, str)]
            raise ConfigError(f'CIFARFiles.label_key: {str(path)!r} has no {keys[0]!r}; {candidates(keys[0], there)}')
        labels, where = content[keys[0]], f'CIFARFiles: {str(path)!r}: {keys[0]}'
        if not isinstance(labels, (list, tuple)) and not (isinstance(labels, np.ndarray) and labels.ndim):
            raise ConfigError(f'{where} must be a list of {count} whole numbers, found {shown(labels)}')
        if len(labels) != count:
            raise ConfigError(f'CIFARFiles: {str(path)!r} holds {count} images but {len(labels)} {keys[0]}')
        most = len(self.CLASSES) if self.CLASSES else math.inf
        wrong = [label for label in labels if not isinstance(label, (int, np.integer)) or not 0 <= label < most]
        if wrong:
            allowed = f'0 to {most - 1}' if self.CLASSES else 'whole numbers from 0'
            raise ConfigError(f'{where} must be {allowed}, found {shown(wrong[0])}')
        return [int(label) for label in labels]
