"""Small real detection runs: digits on photos written to disk, mmdet's Faster R-CNN with a narrow ResNet-18, a real Runner."""

import itertools
import os

import torch
from helpers import ROOT, require_ops
from mmengine.config import Config
from mmengine.registry import DefaultScope

from mmsskd.distill.build import build_model

_numbers = itertools.count()
STAGES = ['layer1', 'layer2', 'layer3', 'layer4', 'neck']


def detector(width=8, channels=16, num_classes=10, **changes) -> dict:
    """The Faster R-CNN of the demo, made narrow; with the defaults 0.3 million parameters, most of them in the RoI head."""
    require_ops()
    model = Config.fromfile(ROOT / 'configs/_base_/models/small_faster_rcnn.py').model
    model.backbone.update(base_channels=width)
    model.neck.update(in_channels=[width * 2**i for i in range(4)], out_channels=channels)
    model.rpn_head.update(in_channels=channels, feat_channels=channels)
    model.roi_head.bbox_roi_extractor.update(out_channels=channels)
    model.roi_head.bbox_head.update(in_channels=channels, fc_out_channels=32, num_classes=num_classes)
    model.type = 'mmdet.FasterRCNN'
    wrapped = Config(dict(model=model))
    wrapped.merge_from_dict({f'model.{key}': value for key, value in changes.items()})
    return wrapped.model.to_dict()


def save_detector(model_cfg: dict, path, seed: int = 0) -> str:
    """Write random weights of a detector, BN statistics included, so that a teacher is not trivial."""
    torch.manual_seed(seed)
    model = build_model(Config(dict(model=model_cfg)).model)
    model.init_weights()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 1.5)
    torch.save(dict(state_dict=model.state_dict()), path)
    return str(path)


def detection_cfg(
    work_dir, photos, teacher_checkpoint, *, iters=None, hook=None, teacher=None, student=None, **overrides
):
    """A run of six phases: four stages, the neck, the head; each of one epoch of three iterations.

    Args:
        photos: Folder of the data set.
        iters: Use an iteration-based loop with phases of that many iterations.
        hook: Fields of the schedule hook, merged over the defaults.
    """
    length = dict(epochs=1) if iters is None else dict(iters=iters)
    base = Config.fromfile(ROOT / 'configs/_base_/datasets/digits_on_photos.py')
    base.data_root = f'{photos}/'
    base.train_pipeline[2].update(scale=(64, 64))
    base.test_pipeline[1].update(scale=(64, 64))
    loaders = {}
    for name in ('train', 'val', 'test'):
        loaders[f'{name}_dataloader'] = base[f'{name}_dataloader']
        loaders[f'{name}_dataloader'].dataset.data_root = f'{photos}/'
        loaders[f'{name}_dataloader'].dataset.pipeline = base['train_pipeline' if name == 'train' else 'test_pipeline']
        loaders[f'{name}_dataloader'].batch_size = 2
    if iters is not None:
        base.train_dataloader.sampler.type = 'InfiniteSampler'
    evaluator = dict(base.val_evaluator, ann_file=f'{photos}/annotations/val.json')
    every = dict(by_epoch=True, interval=1) if iters is None else dict(by_epoch=False, interval=1)
    cfg = Config(
        dict(
            default_scope='mmdet',
            work_dir=str(work_dir),
            experiment_name=f'detection{next(_numbers)}_{os.getpid()}',
            model=dict(
                type='mmsskd.StagewiseDistiller',
                teacher=teacher or detector(),
                teacher_checkpoint=str(teacher_checkpoint),
                student=student or detector(width=4),
                stages=STAGES,
                input_shape=(3, 64, 64),
            ),
            **loaders,
            val_evaluator=evaluator,
            test_evaluator=evaluator,
            val_cfg=dict(),
            test_cfg=dict(),
            optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.01, momentum=0.9)),
            param_scheduler=[],
            train_cfg=dict(by_epoch=True, max_epochs=1)
            if iters is None
            else dict(by_epoch=False, max_iters=1, val_interval=100),
            default_hooks=dict(
                logger=dict(type='LoggerHook', interval=1),
                checkpoint=dict(type='CheckpointHook', **every),
                stage_schedule=dict(
                    type='mmsskd.StageScheduleHook', phases='sskd_literal', transfer=length, head=length
                ),
            ),
            log_processor=dict(by_epoch=iters is None),
            visualizer=dict(type='Visualizer', vis_backends=[dict(type='LocalVisBackend')]),
            randomness=dict(seed=0),
            log_level='WARNING',
        )
    )
    cfg.default_hooks.stage_schedule.update(hook or {})
    cfg.merge_from_dict(overrides)
    return cfg


def scope():
    """Types without a prefix are mmdet's."""
    return DefaultScope.overwrite_default_scope('mmdet')
