"""Photos that nobody has annotated, for phases that look at no label."""

import logging
from pathlib import Path

from mmengine.dataset import BaseDataset
from mmengine.logging import print_log

from ..errors import ConfigError
from ..registry import DATASETS
from ..utils.folders import describe_left_out, walk_files

SUFFIXES = ('.jpg', '.jpeg', '.png', '.bmp', '.tif', '.tiff', '.webp', '.ppm', '.pgm')


@DATASETS.register_module()
class UnlabelledImages(BaseDataset):
    """All images in a folder and the folders below it, in the order of their paths. Links are followed, each real folder once.

    An item has ``img_path``, ``img_id``, ``width``, ``height`` (pixels, as the file's header says) and no instances. So the
    pipeline of a labeled detection set takes it as it is, ``LoadAnnotations`` included, and so does its
    ``AspectRatioBatchSampler``. A transform that drops images without boxes must be told not to:
    ``RandomCrop(allow_negative_crop=True)``.

    Each file is decoded once to the end before its first use: OpenCV gives half an image for a truncated JPEG, and says nothing
    that a training run would notice.

    Args:
        data_root: Folder of the images.
        corrupt: What to do with a file that cannot be decoded to its end. ``'skip'``: warn with its path and take another image
            in its place. ``'stop'``: end the run with its path.
        pipeline, indices: As for any dataset.

    Raises:
        ConfigError: The folder is missing or holds no image, or another value of ``corrupt``; with ``corrupt='stop'`` also when
            a corrupt file is met.

    Example:
        >>> import tempfile
        >>> from PIL import Image
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     Image.new('RGB', (6, 4)).save(f'{folder}/photo.png')
        ...     item = UnlabelledImages(folder)[0]
        >>> item['width'], item['height'], item['instances']
        (6, 4, [])
    """

    METAINFO: dict = {}

    def __init__(self, data_root: str, corrupt: str = 'skip', **kwargs):
        if corrupt not in ('skip', 'stop'):
            raise ConfigError(f"UnlabelledImages.corrupt must be 'skip' or 'stop', found {corrupt!r}")
        self.corrupt = corrupt
        self._checked: dict[str, bool] = {}
        super().__init__(ann_file='', data_root=data_root, **kwargs)

    def load_data_list(self) -> list[dict]:
        root = Path(self.data_root)
        if not root.is_dir():
            raise ConfigError(f'UnlabelledImages.data_root: no folder {str(root)!r} in {Path.cwd()}')
        (files,), left_out = walk_files([root])
        if left_out:
            print_log(f'{str(root)!r}: {describe_left_out(left_out)}', logger='current', level=logging.WARNING)
        paths = [file for file in files if file.lower().endswith(SUFFIXES)]
        if not paths:
            raise ConfigError(f'UnlabelledImages.data_root: {str(root)!r} holds no image ({", ".join(SUFFIXES)})')
        return [dict(img_path=path, img_id=i, instances=[]) for i, path in enumerate(paths)]

    def get_data_info(self, idx: int) -> dict:
        from PIL import Image  # reads a header without decoding the image

        info = super().get_data_info(idx)
        try:
            with Image.open(info['img_path']) as image:
                info['width'], info['height'] = image.size
        except (OSError, Image.DecompressionBombError):  # named where it is decoded; who groups by shape gets a square
            info['width'] = info['height'] = 1
        return info

    def prepare_data(self, idx: int):
        path = super().get_data_info(idx)['img_path']
        if path not in self._checked:
            self._checked[path] = self._is_whole(path)
        if not self._checked[path]:
            if self.test_mode:  # nothing may stand for it in an evaluation
                raise ConfigError(f'{path!r} cannot be decoded')
            return None  # mmengine then takes another image
        item = super().prepare_data(idx)
        if item is None:
            raise ConfigError(
                f'UnlabelledImages: its pipeline gives nothing for {path!r}, which has no boxes: set allow_negative_crop=True in '
                'RandomCrop, and keep what has no annotations in others that filter by them'
            )
        return item

    def _is_whole(self, path: str) -> bool:
        reason = why_broken(path)
        if reason is None:
            return True
        message = f'the image {path!r} is corrupt ({reason})'
        if self.corrupt == 'stop':
            raise ConfigError(f"{message}; fix or remove it, or set corrupt='skip' in its dataset")
        print_log(f'{message}; skipped, another image takes its place', logger='current', level=logging.WARNING)
        return False


def why_broken(path: str) -> str | None:
    """Say why an image cannot be decoded to its end; None where it can."""
    from PIL import Image

    try:
        with Image.open(path) as image:
            image.draft('L', (image.width // 8, image.height // 8))  # a JPEG: all its data, an eighth of the pixels
            image.load()
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        return str(error)
    return None
