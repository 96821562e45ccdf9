"""The two configs of a call, as plain as a person would write them: the teacher's run and the student's."""

import copy
import os
from pathlib import Path

import torch
from mmengine.config import Config, ConfigDict
from mmengine.utils import get_installed_path

from ..distill.network.forward import DEFAULT_SHAPE
from ..errors import ConfigError, check_whole
from .data import Data
from .models import Model
from .recipe import Pair, Recipe

RUNTIME = {'classification': 'default_runtime', 'detection': 'detection_runtime'}
SCOPE = {'classification': 'mmpretrain', 'detection': 'mmdet'}
SMALL = 64  # pixels up to which images are treated as those of CIFAR are
SMALLEST = 8  # pixels
FEW_IMAGES = 500  # below, a worker takes longer to start than to read
COSINE = dict(type='CosineAnnealingLR', by_epoch=True, convert_to_iter_based=True)


def side_of(student: Model, teacher: Model, data: Data, size: int | None) -> int | None:
    """Pixels of the square image that the networks see: as asked for, as in CIFAR's files, or as the student's config crops.

    Photos smaller than that are not blown up, unless one of the networks is made for one size. None for a detector whose config
    is to decide.

    Raises:
        ConfigError: ``size`` is no number of pixels, or another one than that of CIFAR's files.
    """
    check_whole('size', SMALLEST if size is None else size, SMALLEST, ' of pixels')
    if data.side is not None and size not in (None, data.side):
        raise ConfigError(f'size is {size}, but the images in the files have {data.side} pixels; leave it out')
    if size or data.side or data.task == 'detection':
        return size or data.side
    side = DEFAULT_SHAPE[-1]
    for transform in _pipeline(student.cfg) or []:
        value = transform.get('crop_size') or (transform.get('scale') if 'Resize' in transform['type'] else None)
        side = value if isinstance(value, int) else value[0] if value else side
    if data.shorter and not is_made_for_one_size(student, teacher):
        side = min(side, max(data.shorter // 8 * 8, 32))
    return side


def is_made_for_one_size(*models: Model) -> bool:
    """Whether a backbone takes images of one size alone."""
    return any('img_size' in each.cfg.model.get('backbone', {}) for each in models)


def _pipeline(cfg: Config, split: str = 'train') -> list | None:
    """The transforms of a config's data set."""
    dataset = (cfg.get(f'{split}_dataloader') or {}).get('dataset') or {}
    return dataset.get('pipeline')


def batch_of(student: Model, data: Data, side: int | None, count: int, batch_size: int | None = None) -> int:
    """Images a step: as asked for, or as many as ``count`` images allow."""
    check_whole('batch_size', 1 if batch_size is None else batch_size)
    usual = 64 if side and side <= SMALL else 32
    if data.task == 'detection':
        usual = (student.cfg.get('train_dataloader') or {}).get('batch_size', 2)
    return batch_size or max(min(usual, count // 4), min(count, 2))


def with_classes(model: dict, count: int):
    """A copy of a model config in which whatever has a number of classes has this one."""
    if isinstance(model, dict):
        own = dict(num_classes=count) if isinstance(model.get('num_classes'), int) else {}
        return {key: with_classes(value, count) for key, value in model.items()} | own
    return [with_classes(each, count) for each in model] if isinstance(model, (list, tuple)) else copy.deepcopy(model)


def model_of(model: Model, data: Data, key: str, classes: int | None = None) -> dict:
    """The config of a named model.

    Args:
        classes: How many it is to know; 0: those of its own config; None: those of the data, if that has any.

    Raises:
        ConfigError: It has no number of classes that could be set.
    """
    cfg = model.cfg.model.to_dict()
    cfg.setdefault('_scope_', model.cfg.get('default_scope', 'mmengine'))
    if model.foreign:
        return cfg
    if data.task == 'classification':
        cfg['data_preprocessor'] = preprocessor_of(model)
    if key == 'student' and data.task == 'detection':  # mmdet's keep the first stage and the statistics as they are
        free = dict(frozen_stages=-1, norm_eval=False)
        cfg['backbone'].update({name: value for name, value in free.items() if name in cfg['backbone']})
    classes = len(data.classes) if classes is None else classes
    if not classes:
        return cfg
    if 'num_classes' not in repr({name: part for name, part in cfg.items() if name != 'data_preprocessor'}):
        raise ConfigError(f'{key}: {model.name!r} has no num_classes that could be set to {classes}; it predicts none')
    return with_classes(cfg, classes)


def preprocessor_of(model: Model) -> dict:
    """Normalization of a classifier's images, which are BGR here, whatever those of its config are."""
    own = model.cfg.get('data_preprocessor') or model.cfg.model.get('data_preprocessor') or {}
    own = dict(dict(mean=[127.5] * 3, std=[127.5] * 3, to_rgb=True), **own)
    own.pop('num_classes', None)
    dataset = (model.cfg.get('train_dataloader') or {}).get('dataset') or {}
    return dict(own, to_rgb=own['to_rgb'] or str(dataset.get('type')).startswith('CIFAR'))  # CIFAR's own files are RGB


class Composer:
    """Writes the configs of one call.

    Args:
        student: Whose optimizer and, of a detector, pipeline are used.
        data: What there is to learn from.
        side: See :func:`side_of`.
        asked: Images a step; None: see :func:`batch_of`.
        out: Folder of the call.
        preprocessor: Normalization of a classifier's images, for both networks.
    """

    def __init__(self, student: Model, data: Data, side: int | None, asked: int | None, out: Path, preprocessor: dict):
        self.student, self.data, self.side, self.asked, self.out = student, data, side, asked, out
        self.batch, self.preprocessor = batch_of(student, data, side, data.count, asked), preprocessor
        few = data.side or max(data.count, data.unlabelled_count) < FEW_IMAGES
        self.workers = 0 if few else min(4, os.cpu_count() or 1)

    def teacher(self, model: dict, epochs: int, load_from: str | None) -> dict:
        """The config of a plain run that trains the teacher."""
        cfg = self._run(model, epochs, 'teacher')
        warm = max(epochs // 20, 1)
        cfg['param_scheduler'] = [
            dict(type='LinearLR', start_factor=0.1, begin=0, end=warm, by_epoch=True, convert_to_iter_based=True),
            dict(COSINE, begin=warm, end=max(epochs, warm + 1), T_max=max(epochs - warm, 1)),
        ]
        cfg['load_from'] = load_from
        return cfg

    def student_run(self, recipe: Recipe, pair: Pair, student: dict, teacher: dict, checkpoint: str) -> dict:
        """The config of the stage-by-stage run."""
        shape = (3, self.side, self.side) if self.side else DEFAULT_SHAPE
        model = dict(
            type='mmsskd.StagewiseDistiller', _scope_=SCOPE[self.data.task], teacher=teacher,
            teacher_checkpoint=checkpoint, student=student, input_shape=shape, **pair.options, **recipe.model,
        )  # fmt: skip
        cfg = self._run(model, sum(phase['epochs'] for phase in recipe.phases), '')
        transfer = {}
        if recipe.on_unlabelled or not self.data.classes:
            transfer['train_dataloader'] = self._loader(self._unlabelled(), train=True)
            batch = batch_of(self.student, self.data, self.side, self.data.unlabelled_count, self.asked)
            transfer['train_dataloader']['batch_size'] = batch
        if not self.data.classes:
            cfg['train_dataloader'] = transfer.pop('train_dataloader')
        if self.data.task == 'detection':  # as in the pairs of configs/sskd: students start from ImageNet's weights
            transfer['optim_wrapper'] = dict(optimizer=dict(type='Adam', lr=0.001))
        head = dict(param_scheduler=[dict(COSINE)])
        schedule = dict(type='mmsskd.StageScheduleHook', phases=recipe.phases, transfer=transfer, head=head)
        cfg['default_hooks']['stage_schedule'] = schedule
        cfg['default_hooks']['checkpoint'].update({} if self.data.classes else dict(save_best=None))
        return cfg

    # -- parts ---------------------------------------------------------------------------------------------------------

    def _run(self, model: dict, epochs: int, name: str) -> dict:
        """All of a run but its schedule."""
        folder = Path(get_installed_path('mmsskd')) / '.mim/configs/_base_'
        cfg = Config.fromfile(folder / f'{RUNTIME[self.data.task]}.py').to_dict()
        cfg.pop('vis_backends', None)
        # mmdet's: a second run in this process would write into the folder of the first
        cfg['visualizer'].pop('name', None)
        cfg.update(
            work_dir=str(self.out / name) if name else str(self.out), model=model, optim_wrapper=self._optimizer(),
            train_cfg=dict(by_epoch=True, max_epochs=epochs, val_interval=max(epochs // 10, 1)),
        )  # fmt: skip
        cfg['default_hooks']['logger']['interval'] = 50
        if self.data.task == 'classification':
            cfg['data_preprocessor'] = dict(self.preprocessor, num_classes=len(self.data.classes) or 1)
        if self.data.classes:
            cfg['train_dataloader'] = self._loader(dict(self.data.train, pipeline=self._transforms(True)), train=True)
            test = dict(self.data.val, test_mode=True, pipeline=self._transforms(False))
            for split in ('val', 'test'):
                cfg[f'{split}_dataloader'] = self._loader(copy.deepcopy(test), train=False)
                cfg[f'{split}_evaluator'], cfg[f'{split}_cfg'] = self._evaluator(), dict()
        return cfg

    def _optimizer(self) -> dict:
        """The student's own, its rate scaled to the batch as it is here."""
        cfg = self.student.cfg
        default = dict(optimizer=dict(type='SGD', lr=0.05, momentum=0.9, weight_decay=5e-4))
        wrapper = ConfigDict(cfg.get('optim_wrapper') or default).to_dict()
        if 'Amp' in str(wrapper.get('type')) and not torch.cuda.is_available():
            wrapper = {key: value for key, value in wrapper.items() if key not in ('type', 'loss_scale', 'dtype')}
        base = (cfg.get('auto_scale_lr') or {}).get('base_batch_size')
        if base and 'lr' in wrapper['optimizer']:
            wrapper['optimizer']['lr'] = float(f'{wrapper["optimizer"]["lr"] * self.batch / base:.3g}')
        return wrapper

    def _transforms(self, train: bool) -> list[dict]:
        if self.data.task == 'detection':
            return self._of_detector(train)
        return _of_photos(self.side, train, read=self.data.side is None)

    def _of_detector(self, train: bool) -> list[dict]:
        pipeline = _pipeline(self.student.cfg, 'train' if train else 'val')
        kind = (self.student.cfg.get('train_dataloader') or {}).get('dataset', {}).get('type')
        if not pipeline or not str(kind).endswith('CocoDataset'):
            raise ConfigError(
                f"student: the data set in the config of {self.student.name!r} is {kind}; one call needs a pipeline over COCO's "
                'files in it. Write a config instead, see docs/own_data.md'
            )
        pipeline = [transform.to_dict() for transform in copy.deepcopy(pipeline)]
        for transform in pipeline if self.side else ():
            if transform['type'].endswith(('Resize', 'RandomChoiceResize')):
                transform.pop('scales', None)
                transform.update(scale=(self.side, self.side))
        for transform in pipeline:  # mmpretrain and mmdet have some of one name
            transform.setdefault('_scope_', 'mmdet')
        return pipeline

    def _unlabelled(self) -> dict:
        photos = dict(type='mmsskd.UnlabelledImages', data_root=self.data.unlabelled)
        pipeline = self._of_detector(True) if self.data.task == 'detection' else _of_photos(self.side, True, read=True)
        return dict(photos, pipeline=pipeline)

    def _loader(self, dataset: dict, train: bool) -> dict:
        many = self.data.task == 'classification' and not train
        loader = dict(
            batch_size=max(self.batch, 64) if many else self.batch, num_workers=self.workers,
            sampler=dict(type='DefaultSampler', shuffle=train), dataset=dataset,
        )  # fmt: skip
        if train:
            loader['drop_last'] = True  # a batch of one image has no variance
        if self.workers:
            loader['persistent_workers'] = True
        if self.data.task == 'detection':
            loader['batch_sampler'] = dict(type='mmdet.AspectRatioBatchSampler', drop_last=True) if train else None
            loader['drop_last'] = False
            if train and dataset['type'].endswith('CocoDataset'):
                dataset['filter_cfg'] = dict(filter_empty_gt=True)
        return loader

    def _evaluator(self) -> dict:
        if self.data.task == 'classification':
            return dict(type='mmpretrain.Accuracy', topk=(1,))
        file = self.data.val['data_root'] + self.data.val['ann_file']
        metric = ['bbox', 'segm'] if 'mask_head' in repr(self.student.cfg.model) else 'bbox'
        return dict(type='mmdet.CocoMetric', ann_file=file, metric=metric)


def _of_photos(side: int, train: bool, read: bool) -> list[dict]:
    """Transforms of a classifier: those usual for CIFAR, or those usual for ImageNet."""
    small = side <= SMALL
    first: list[dict] = [dict(type='LoadImageFromFile')] if read else []
    if read and small:
        first.append(dict(type='Resize', scale=(side, side)))
    if train:
        shifted = dict(type='RandomCrop', crop_size=side, padding=max(side // 8, 1))
        first.append(shifted if small else dict(type='RandomResizedCrop', scale=side))
        first.append(dict(type='RandomFlip', prob=0.5, direction='horizontal'))
    elif not small:
        first += [dict(type='ResizeEdge', scale=side * 8 // 7, edge='short'), dict(type='CenterCrop', crop_size=side)]
    return [*first, dict(type='PackInputs')]


def config_text(cfg: dict, says: str) -> str:
    """A config that tools/train.py takes, with lines at its top that say what it is."""
    comment = ''.join(f'# {line}\n' for line in says.splitlines())
    return comment + Config(cfg).pretty_text
