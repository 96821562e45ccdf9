"""Training faces in InsightFace's RecordIO."""

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from mmengine.logging import print_log

from ...errors import ConfigError
from ...registry import DATASETS
from ...utils.quiet import BaseDataset
from .decoding import decode
from .record_labels import NO_IMAGE, load_labels
from .recordio import RecordReader


@DATASETS.register_module()
class FaceRecordDataset(BaseDataset):
    """Faces of InsightFace's RecordIO (``train.rec``, ``train.idx``, ``property``): MS1MV2, MS1MV3, CASIA-WebFace and the like.

    An item has ``img``, uint8 (H, W, 3) in the order blue, green, red, as OpenMMLab reads files, ``img_shape``, ``ori_shape``
    and ``gt_label``, the number of the person from 0. No ``LoadImageFromFile`` is needed. Records without an image (the header
    of key 0, the identities after the images) are left out; the counts that the header of key 0 states are not looked at.

    The first use looks at every record once and keeps the labels in ``<rec>.labels.npy``. All images together take 24 bytes each
    in memory, not a dict.

    Args:
        data_root: Folder of the files.
        rec: Name of the file with the records; its index has the suffix ``.idx`` and is made where it is missing.
        pipeline, test_mode, indices, **kwargs: As for any dataset; ``indices`` are places among the images, from 0.

    Attributes:
        num_classes: Number of people: the largest label of all images and one, whatever ``indices`` says.

    Raises:
        ConfigError: What :class:`RecordReader` raises; an index that leaves out records; another number of people or images than
            ``property`` says, where there is one; a label that is no whole number from 0; no image; later, bytes that are no
            image, or one that claims too many pixels. The messages name key and offset.

    Example:
        >>> import tempfile
        >>> from PIL import Image
        >>> from mmsskd.face.data.record_folders import folder_to_records
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     Path(folder, 'people/ann').mkdir(parents=True)
        ...     Image.new('RGB', (112, 112)).save(f'{folder}/people/ann/1.png')
        ...     found = folder_to_records(f'{folder}/people', f'{folder}/train')
        ...     faces = FaceRecordDataset(folder)
        ...     faces.num_classes, faces[0]['img'].shape, faces[0]['gt_label']
        (1, (112, 112, 3), 0)
    """

    METAINFO: dict = {}

    def __init__(
        self,
        data_root: str,
        rec: str = 'train.rec',
        pipeline: Sequence = (),
        test_mode: bool = False,
        indices: int | Sequence[int] | None = None,
        **kwargs,
    ):
        self.rec = str(Path(data_root).expanduser() / rec)
        super().__init__(
            ann_file='',
            data_root=data_root,
            pipeline=pipeline,
            test_mode=test_mode,
            indices=indices,
            **{**kwargs, 'serialize_data': False},
        )
        if type(next(iter(self.pipeline.transforms), None)).__name__ == 'LoadImageFromFile':
            raise ConfigError('FaceRecordDataset gives images already: take LoadImageFromFile out of its pipeline')

    def load_data_list(self) -> '_Records':
        reader = RecordReader(self.rec)
        labels, unwritten = load_labels(reader)
        places = np.flatnonzero(labels != NO_IMAGE).astype(np.int32)
        if not len(places):
            raise ConfigError(f'{self.rec!r}: none of its {len(reader)} records holds an image')
        if unwritten:
            self._warn(f'the labels cannot be kept for later runs, each will read the whole file ({unwritten})')
        labels = labels[places]
        self._num_classes = int(labels.max()) + 1
        self._check_property(len(labels))
        return _Records(reader, places, labels)

    def _get_unserialized_subset(self, indices: int | Sequence[int]) -> '_Records':
        if isinstance(indices, int):
            return self.data_list[:indices] if indices >= 0 else self.data_list[indices:]
        try:
            return self.data_list[np.asarray(indices, np.int64)]
        except IndexError as error:
            raise ConfigError(
                f'FaceRecordDataset.indices: {self.rec!r} holds {len(self.data_list)} images: {error}'
            ) from error

    def get_data_info(self, idx: int) -> dict:
        """The image at ``idx``, decoded, with its label."""
        if not self._fully_initialized:
            self.full_init()
        records = self.data_list
        image = records.decode(idx)
        shape = image.shape[:2]
        label = records.labels.item(idx)
        return dict(
            img=image,
            img_shape=shape,
            ori_shape=shape,
            gt_label=label,
            sample_idx=idx if idx >= 0 else len(records) + idx,
        )

    def get_cat_ids(self, idx: int) -> list[int]:
        return [int(self.get_gt_labels()[idx])]

    def get_gt_labels(self) -> np.ndarray:
        """Labels of all images, (N,) of int32, without reading one."""
        if not self._fully_initialized:
            self.full_init()
        return self.data_list.labels

    @property
    def num_classes(self) -> int:
        if not self._fully_initialized:
            self.full_init()
        return self._num_classes

    def extra_repr(self) -> list[str]:
        people = [f'Number of people: \t{self._num_classes}'] if self._fully_initialized else []
        return [f'Records: \t{self.rec}', *people]

    def _check_property(self, images: int) -> None:
        """Compare the ``property`` file, ``people,height,width`` and perhaps a line with the number of images, with the records.

        It is that of ``train.rec``, or of the only ``.rec`` in its folder.
        """
        rec = Path(self.rec)
        path = rec.with_name('property')
        if not path.is_file() or (rec.name != 'train.rec' and len(list(rec.parent.glob('*.rec'))) > 1):
            return
        with path.open('rb') as file:
            lines = file.read(1000).decode('ascii', 'replace').split('\n')
        for line, found, what in zip(lines, (self._num_classes, images), ('people', 'images')):
            said = line.split(',')[0].strip()
            if said.isdecimal() and int(said) != found:
                raise ConfigError(
                    f'{str(path)!r} says {said[:20]} {what}, the records of {self.rec!r} hold {found}: the files are not of one '
                    'set, or a part of the records or of the index is missing. Copy all three again; where property is what is '
                    'wrong, remove it'
                )
        if not lines[0].split(',')[0].strip().isdecimal():
            self._warn(
                f'{str(path)!r} does not begin with the number of people, but with {lines[0][:20]!r}; not compared'
            )

    def _warn(self, message: str) -> None:
        print_log(f'{self.rec!r}: {message}', logger='current', level=logging.WARNING)


class _Records(Sequence):
    """The records that are images, with their labels; slices and arrays of places give parts of it. Copies share the arrays."""

    def __init__(self, reader: RecordReader, places: np.ndarray, labels: np.ndarray):
        self.reader, self.places, self.labels = reader, places, labels
        places.flags.writeable = labels.flags.writeable = False

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, which) -> '_Records':
        return _Records(self.reader, self.places[which], self.labels[which])

    def __deepcopy__(self, memo) -> '_Records':
        return self

    def decode(self, index: int) -> np.ndarray:
        place = self.places.item(index)
        data = self.reader.read_image(place)
        image = decode(data, self.reader.where(place))
        if image is None:
            found = f'{len(data)} bytes that begin with {data[:8].tobytes().hex(" ")}'
            raise ConfigError(f'{self.reader.where(place)}: no image that OpenCV can decode, but {found}')
        return image
