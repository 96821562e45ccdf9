"""Heads of mmdet's zoo that ask more of a run than a loss: initialised weights, the epoch, branches that two parts share."""

import pytest
import torch
from detection import detection_cfg, save_detector
from helpers import same, train, weights
from mmengine.config import Config
from mmengine.hub import get_config
from mmengine.runner import Runner

from mmsskd.distill.build import build_model, load_strictly

pytestmark = pytest.mark.slow

RESNET = {
    'backbone.depth': 18, 'backbone.base_channels': 8, 'backbone.frozen_stages': -1, 'backbone.norm_eval': False,
    'backbone.norm_cfg.requires_grad': True, 'backbone.init_cfg': None, 'data_preprocessor.pad_size_divisor': 32,
}  # fmt: skip


def sparse_rcnn() -> dict:
    model = get_config('mmdet::sparse_rcnn/sparse-rcnn_r50_fpn_1x_coco.py').model
    head = {'num_classes': 10, 'in_channels': 16, 'feedforward_channels': 32, 'num_heads': 2, 'num_reg_fcs': 1}
    for key, value in head.items():
        model.roi_head.bbox_head[0][key] = value
    model.roi_head.bbox_head[0].dynamic_conv_cfg.update(in_channels=16, feat_channels=8, out_channels=16)
    model.roi_head.bbox_head = model.roi_head.bbox_head[:1]
    model.train_cfg.rcnn = model.train_cfg.rcnn[:1]
    return narrowed(
        model,
        **{
            'neck.in_channels': [8, 16, 32, 64], 'neck.out_channels': 16, 'rpn_head.num_proposals': 10,
            'rpn_head.proposal_feature_channel': 16, 'roi_head.num_stages': 1, 'roi_head.stage_loss_weights': [1],
            'roi_head.proposal_feature_channel': 16, 'roi_head.bbox_roi_extractor.out_channels': 16,
            'test_cfg.rcnn.max_per_img': 10,
        },
    )  # fmt: skip


def tood() -> dict:
    return narrowed(
        get_config('mmdet::tood/tood_r50_fpn_1x_coco.py').model,
        **{
            'neck.in_channels': [8, 16, 32, 64], 'neck.out_channels': 16, 'bbox_head.num_classes': 10,
            'bbox_head.in_channels': 16, 'bbox_head.feat_channels': 16, 'bbox_head.stacked_convs': 2,
            'bbox_head.norm_cfg': dict(type='GN', num_groups=2),
            'train_cfg.initial_epoch': 2,
        },
    )  # fmt: skip


def ddq() -> dict:
    layer = {'self_attn_cfg.embed_dims': 16, 'ffn_cfg.embed_dims': 16, 'ffn_cfg.feedforward_channels': 32}
    return narrowed(
        get_config('mmdet::ddq/ddq-detr-4scale_r50_8xb2-12e_coco.py').model,
        **{
            'num_queries': 10, 'neck.in_channels': [16, 32, 64], 'neck.out_channels': 16, 'neck.norm_cfg.num_groups': 2,
            'encoder.num_layers': 1, 'decoder.num_layers': 2, 'positional_encoding.num_feats': 8,
            'decoder.layer_cfg.cross_attn_cfg.embed_dims': 16, 'bbox_head.embed_dims': 16, 'bbox_head.num_classes': 10,
            'dn_cfg.group_cfg.num_dn_queries': 4, 'test_cfg.max_per_img': 10,
            **{f'{part}.layer_cfg.{key}': value for part in ('encoder', 'decoder') for key, value in layer.items()},
        },
    )  # fmt: skip


def narrowed(model, **changes) -> dict:
    wrapped = Config(dict(model=dict(model, type=f'mmdet.{model.type}', _scope_='mmdet')))
    wrapped.merge_from_dict({f'model.{key}': value for key, value in {**RESNET, **changes}.items()})
    return wrapped.model.to_dict()


def pair(folder, photos, model, phases, teacher=None):
    """A run of two iterations an epoch; the teacher has the student's architecture and other weights."""
    teacher = teacher or save_detector(model, folder / 'teacher.pth', seed=1)
    keys = dict(custom_keys={'backbone': dict(lr_mult=0.1)})
    cfg = detection_cfg(folder / 'work', photos, teacher, teacher=model, student=model)
    cfg.optim_wrapper = dict(optimizer=dict(type='AdamW', lr=1e-4), paramwise_cfg=keys, clip_grad=dict(max_norm=0.1))
    cfg.model.stages = ['layer1', 'layer2', 'layer3', 'layer4', 'neck']
    cfg.train_dataloader.dataset.indices = 4
    cfg.default_hooks.stage_schedule.phases = phases
    return cfg


def trains(cfg, folder) -> Runner:
    """All phases, with losses that are numbers, and a student that a fresh model takes strictly."""
    runner = train(cfg)
    assert runner.iter == runner.max_iters == 2 * runner.max_epochs
    assert all(torch.isfinite(value).all() for value in runner.model.state_dict().values())
    load_strictly(
        build_model(Config.fromfile(folder / 'work/student.py').model), folder / 'work/student.pth', 'student'
    )
    return runner


def test_sparse_rcnn_whose_boxes_are_initialised(photos, tmp_path):
    trains(pair(tmp_path, photos, sparse_rcnn(), [dict(train='stages'), dict(train='head')]), tmp_path)


def test_tood_whose_head_looks_at_the_epoch(photos, tmp_path):
    """Its first two epochs have another assigner and another loss; phase 2 lies in both times."""
    phases = [dict(train='stages', epochs=1), dict(train='all', epochs=2)]
    runner = trains(pair(tmp_path, photos, tood(), phases), tmp_path)
    assert runner.model.student.bbox_head.epoch == 2


@pytest.fixture(scope='module')
def ddq_run(photos, tmp_path_factory):
    folder = tmp_path_factory.mktemp('ddq')
    phases = [dict(train='stages'), dict(train='all'), dict(train='head')]
    return trains(pair(folder, photos, ddq(), phases), folder), folder


def test_ddq_whose_decoder_borrows_branches_of_the_head(ddq_run):
    """Its checkpoints and its students have the names of a model that has not run yet."""
    runner, folder = ddq_run
    assert runner.model.student.decoder.aux_reg_branches is runner.model.student.bbox_head.aux_reg_branches
    names = set(build_model(Config.fromfile(folder / 'work/student.py').model).state_dict())
    for file in ('phase1_stages.pth', 'epoch_2.pth', 'student.pth'):
        assert {name for name in weights(folder / 'work' / file) if not name.startswith('adapters.')} == names


def test_ddq_resumed_at_a_border_and_taken_as_teacher(ddq_run, photos, tmp_path):
    """A model of two names for one weight, as plain training saves it, is a teacher like any other."""
    runner, folder = ddq_run
    torch.save(dict(state_dict=runner.model.student.state_dict()), tmp_path / 'plain.pth')
    assert any(name.startswith('decoder.aux_reg_branches') for name in weights(tmp_path / 'plain.pth'))
    load_strictly(build_model(Config(dict(model=ddq())).model), tmp_path / 'plain.pth', 'model.teacher_checkpoint')
    phases = [dict(train='stages'), dict(train='all'), dict(train='head')]
    cfg = pair(tmp_path, photos, ddq(), phases, teacher=folder / 'teacher.pth')
    cfg.resume, cfg.load_from = True, str(folder / 'work/epoch_2.pth')
    train(cfg)
    assert same(weights(folder / 'work/epoch_3.pth'), weights(tmp_path / 'work/epoch_3.pth'))
