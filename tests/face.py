"""Small face runs: people that are patterns of colour, in RecordIO and in an IJB-A-shaped set, and narrow networks."""

import itertools
import os
from pathlib import Path

import cv2
import numpy as np
import torch
from mmengine.config import Config
from mmengine.registry import MODELS

from mmsskd.face.data.record_folders import folder_to_records
from mmsskd.face.evaluation.protocols.ijba_writer import write_ijba_shaped

_numbers = itertools.count()
SIZE = 32


def write_people(folder: Path, count: int, each: int, first: int = 0, shape=(40, 34)) -> Path:
    """A folder for each person: images of one coarse pattern of the person's own, with noise of their own."""
    for person in range(first, first + count):
        pattern = np.random.default_rng(person).uniform(0, 255, (5, 4, 3)).astype(np.float32)
        (folder / f'p{person:02}').mkdir(parents=True)
        for i in range(each):
            noise = np.random.default_rng(1000 * person + i).normal(0, 25, (*shape, 3))
            image = cv2.resize(pattern, shape[::-1], interpolation=cv2.INTER_CUBIC) + noise
            cv2.imwrite(str(folder / f'p{person:02}/{i}.png'), image.clip(0, 255).astype(np.uint8))
    return folder


def write_face_sets(root: Path) -> Path:
    """``train.rec`` of 6 people with 8 images each, ``unlabelled/``, and ``ijba/`` of 9 others."""
    write_people(root / 'people', 6, 8)
    folder_to_records(root / 'people', root / 'train', size=SIZE)
    write_people(root / 'unlabelled', 3, 6, first=50)
    write_ijba_shaped(write_people(root / 'others', 9, 8, first=20), root / 'ijba')
    return root


def recognizer(channels=8, backbone='IResNet', num_classes=6, **overrides) -> dict:
    """An IResNet-18 or MobileFaceNet on crops of 32 pixels, with an embedding of 16 numbers."""
    if backbone == 'IResNet':
        body = dict(type='mmsskd.IResNet', depth=18, base_channels=channels, input_size=SIZE)
        neck = dict(type='mmsskd.FaceEmbedNeck', in_channels=8 * channels, feature_size=2, num_features=16)
    else:
        body = dict(type='mmsskd.MobileFaceNet', scale=1, blocks=(1, 1, 1, 1), input_size=SIZE)
        neck = dict(type='mmsskd.FaceGDCNeck', in_channels=512, feature_size=2, num_features=16)
    model = dict(
        type='mmsskd.FaceRecognizer',
        data_preprocessor=dict(type='mmpretrain.ClsDataPreprocessor', mean=[127.5] * 3, std=[127.5] * 3, to_rgb=True),
        backbone=body,
        neck=neck,
        head=dict(
            type='mmsskd.MarginClsHead', num_classes=num_classes, in_channels=16, margin='cosface', s=16.0, m=0.2
        ),
        test_cfg=dict(flip=True),
    )
    return {**model, **overrides}


def save_recognizer(model_cfg: dict, path: Path) -> str:
    torch.manual_seed(1)
    model = MODELS.build(model_cfg)
    model.init_weights()
    torch.save(dict(state_dict=model.state_dict()), path)
    return str(path)


def evaluation(sets: dict, batch_size=16, **dataset) -> dict:
    return dict(
        batch_size=batch_size,
        num_workers=0,
        dataset=dict(
            type='mmsskd.FaceEvaluation',
            sets=sets,
            size=SIZE,
            pipeline=[dict(type='mmsskd.AlignFace', size=SIZE), dict(type='mmpretrain.PackInputs')],
            **dataset,
        ),
        sampler=dict(type='DefaultSampler', shuffle=False),
    )


def face_run(work_dir: Path, root: Path, teacher: str | None, *, models=None, hook=None, **overrides) -> Config:
    """Stage by stage on ``write_face_sets(root)``: each phase one epoch of three iterations; without a teacher, plain training."""
    big, small = models or (recognizer(), recognizer(4))
    loader = dict(
        batch_size=16,
        num_workers=0,
        drop_last=True,
        dataset=dict(
            type='mmsskd.FaceRecordDataset',
            data_root=str(root),
            pipeline=[dict(type='mmpretrain.RandomFlip', prob=0.5), dict(type='mmpretrain.PackInputs')],
        ),
        sampler=dict(type='DefaultSampler', shuffle=True),
    )
    sets = dict(ijba=dict(reader='ijba', root=str(root / 'ijba')))
    model = big
    if teacher is not None:
        model = dict(
            type='mmsskd.StagewiseDistiller',
            teacher=big,
            teacher_checkpoint=teacher,
            student=small,
            input_shape=(3, SIZE, SIZE),
        )
    cfg = Config(
        dict(
            default_scope='mmpretrain',
            work_dir=str(work_dir),
            experiment_name=f'face{next(_numbers)}_{os.getpid()}',
            model=model,
            train_dataloader=loader,
            val_dataloader=evaluation(sets),
            val_evaluator=dict(type='mmsskd.FaceMetric'),
            test_dataloader=evaluation(sets),
            test_evaluator=dict(type='mmsskd.FaceMetric'),
            val_cfg=dict(),
            test_cfg=dict(),
            optim_wrapper=dict(optimizer=dict(type='AdamW', lr=0.003)),
            param_scheduler=[],
            train_cfg=dict(by_epoch=True, max_epochs=1, val_interval=1),
            default_hooks=dict(
                logger=dict(type='LoggerHook', interval=1), checkpoint=dict(type='CheckpointHook', interval=1)
            ),
            visualizer=dict(type='Visualizer', vis_backends=[dict(type='LocalVisBackend')]),
            randomness=dict(seed=0),
            log_level='WARNING',
        )
    )
    if teacher is not None:
        schedule = dict(type='mmsskd.StageScheduleHook', transfer=dict(epochs=1), head=dict(epochs=1))
        cfg.default_hooks.stage_schedule = schedule | dict(phases='sskd_literal') | (hook or {})
    cfg.merge_from_dict(overrides)
    return cfg
