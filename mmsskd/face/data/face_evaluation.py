"""The faces that an evaluation needs, each of them once, as a data set."""

import inspect
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from mmengine.dataset import Compose
from mmengine.logging import print_log
from torch.utils.data import Dataset

from ...errors import ConfigError, candidates
from ...registry import DATASETS
from ..evaluation.protocol import PairProtocol, TemplateProtocol
from ..evaluation.protocols import (
    describe_faults,
    file_faults,
    read_ijba,
    read_ijbc,
    read_insightface,
    read_lfw_pairs,
    read_templates,
)
from ..evaluation.protocols.files import file_fault
from .alignment import FaceFailure
from .decoding import decode
from .face_bin import pair_protocol_of_bin, read_bin

READERS: dict[str, Callable] = dict(
    ijba=read_ijba,
    ijbc=read_ijbc,
    insightface=read_insightface,
    templates=read_templates,
    lfw=read_lfw_pairs,
)


@DATASETS.register_module()
class FaceEvaluation(Dataset):
    """The faces of one or several evaluations; each distinct face once, whatever number of splits and templates it is in.

    :class:`~mmsskd.face.evaluation.metrics.FaceMetric` turns the embeddings into numbers; it finds the protocols in ``metainfo``.

    Each item is what the pipeline makes of ``img`` (uint8, (H, W, 3), blue first), ``box`` (x, y, width, height) and
    ``landmarks`` (5, 2), in pixels. The latter two are there where they are known. A face that cannot be read or aligned is a
    failure to enrol: its item is a black crop whose data sample has ``failure``, the reason. Its embedding counts for
    nothing.

    Args:
        sets: For each evaluation, by the name that its numbers get, None (left out, of what a config inherits) or a dict with
            ``reader`` and what that takes:
            ``'ijba'``, ``'ijbc'``, ``'insightface'`` (IJB-B and IJB-C), ``'templates'`` (CSV files of one's own), ``'lfw'``
            (``pairs.txt``): the arguments of the functions in :mod:`mmsskd.face.evaluation.protocols`; ``'bin'``: ``path`` of an
            InsightFace ``.bin`` file of pairs.
        pipeline: Makes a crop of ``size`` and packs it: ``[dict(type='mmsskd.AlignFace'), dict(type='PackInputs')]``.
        size: Height and width of a crop, or both in one number.
        strict: Stop where an image file is missing, empty, a folder or unreadable; False: count it as a failure to enrol.
            Landmarks that no face can have are counted in either case.
        test_mode: Here for configs; an evaluation is always one.

    Raises:
        ConfigError: No such reader, what that reader raises, missing files under ``strict``, or a pipeline that gives crops of
            another size.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from PIL import Image
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     for name in 'ab':
        ...         Image.new('RGB', (112, 112)).save(f'{folder}/{name}.png')
        ...     rows = 'TEMPLATE_ID,SUBJECT_ID,FILE,MEDIA_ID', 't1,ann,a.png,1', 't2,bob,b.png,2'
        ...     written = Path(folder, 'faces.csv').write_text('\\n'.join(rows)), Path(folder, 'pairs.csv').write_text('t1,t2')
        ...     mine = dict(reader='templates', metadata=f'{folder}/faces.csv', pairs=f'{folder}/pairs.csv')
        ...     pipeline = [dict(type='mmsskd.AlignFace'), dict(type='mmpretrain.PackInputs')]
        ...     faces = FaceEvaluation(dict(mine=mine), pipeline)
        ...     len(faces), faces[1]['inputs'].shape
        (2, torch.Size([3, 112, 112]))
    """

    def __init__(
        self,
        sets: Mapping[str, Mapping],
        pipeline: Sequence,
        size: int | Sequence[int] = 112,
        strict: bool = True,
        test_mode: bool = True,
    ):
        if not isinstance(sets, Mapping) or not sets:
            raise ConfigError(f'FaceEvaluation.sets must be a dict of evaluations by name, found {sets!r}')
        self.size = (size, size) if isinstance(size, int) else tuple(size)
        self.strict = strict
        self.protocols: dict[str, TemplateProtocol | PairProtocol] = {}
        self._encoded: dict[str, Sequence[bytes]] = {}
        for name, cfg in sets.items():
            if cfg is not None:
                self.protocols[name] = self._read(name, cfg)
        if not self.protocols:
            raise ConfigError(f'FaceEvaluation.sets: all of {list(sets)} are None, nothing is left to measure')
        self.starts = np.cumsum([0, *(len(protocol.faces) for protocol in self.protocols.values())])
        self.pipeline = Compose(pipeline)

    def _read(self, name: str, cfg: Mapping):
        where = f'FaceEvaluation.sets[{name!r}]'
        arguments = {key: value for key, value in cfg.items() if key != '_scope_'} if isinstance(cfg, Mapping) else {}
        reader = arguments.pop('reader', None)
        if reader not in (*READERS, 'bin'):
            raise ConfigError(f'{where}: there is no reader {reader!r}; {candidates(str(reader), [*READERS, "bin"])}')
        read: Callable = read_bin if reader == 'bin' else READERS[reader]
        try:
            inspect.signature(read).bind(**arguments)
        except TypeError as error:
            allowed = ', '.join(inspect.signature(read).parameters)
            raise ConfigError(f'{where}: {error}; the reader {reader!r} takes {allowed}') from error
        if reader == 'bin':
            self._encoded[name], same = read_bin(**arguments)
            return pair_protocol_of_bin(name, same)
        protocol = read(**arguments)
        faults = file_faults(protocol)
        if faults:
            message = (
                f'{where}: {len(faults)} of {len(protocol.faces)} faces have no image below {protocol.root!r}: '
                f'{describe_faults(protocol, faults)}'
            )
            if self.strict:
                raise ConfigError(f'{message}. Complete them, or set strict=False to count them as failures to enrol.')
            print_log(f'{message}; counted as failures to enrol', logger='current', level=logging.WARNING)
        return protocol

    @property
    def metainfo(self) -> dict:
        """``protocols``, by name, and ``starts``: the first item of each, and the number of all."""
        return dict(protocols=self.protocols, starts=self.starts)

    def __len__(self) -> int:
        return int(self.starts[-1])

    def __getitem__(self, index: int) -> dict:
        which = int(np.searchsorted(self.starts, index, side='right')) - 1
        name = list(self.protocols)[which]
        place = index - int(self.starts[which])
        results: dict = dict(sample_idx=index)
        try:
            results['img'] = self._image(name, place)
            faces = self.protocols[name].faces
            for key, value in (('box', faces.boxes[place]), ('landmarks', faces.landmarks[place])):
                if np.isfinite(value).all():
                    results[key] = value
            packed = self.pipeline(results)
        except FaceFailure as failure:
            return self._failed(index, str(failure))
        if tuple(packed['inputs'].shape[-2:]) != self.size:
            raise ConfigError(
                f'FaceEvaluation: the pipeline gives crops of {tuple(packed["inputs"].shape[-2:])}, size says {self.size}; set '
                'the size of AlignFace to that of the data set, and to what the network was trained on'
            )
        packed['data_samples'].set_metainfo(
            dict(sample_idx=index, failure='', aligned_by=results.get('aligned_by', 'image'))
        )
        return packed

    def _image(self, name: str, place: int) -> np.ndarray:
        if name in self._encoded:
            where, data, fault = f'image {place} of {name}', self._encoded[name][place], 'no bytes'
        else:
            where = Path(self.protocols[name].root) / self.protocols[name].faces.files[place]
            fault = file_fault(where)
            data = b'' if fault else where.read_bytes()
        try:
            image = decode(data, repr(str(where)))
        except ConfigError:  # of too many pixels
            if self.strict:
                raise
            image = None
        if image is None:
            fault = 'unreadable image' if data else fault
            if self.strict:
                found = 'cannot be decoded' if data else f'cannot be read: {fault}'
                raise ConfigError(f'{str(where)!r} {found}; fix it, or set strict=False in FaceEvaluation')
            raise FaceFailure(fault)
        return image

    def _failed(self, index: int, reason: str) -> dict:
        from mmpretrain.structures import DataSample

        sample = DataSample(metainfo=dict(sample_idx=index, failure=reason, aligned_by=''))
        return dict(inputs=torch.zeros(3, *self.size, dtype=torch.uint8), data_samples=sample)
