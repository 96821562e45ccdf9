"""Detectors as functions of tensors: what `predict` gives, to the bit, on photos that do not fill their place."""

import functools

import cv2
import pytest
import torch
from detection import detector, scope
from mmengine.config import Config
from mmengine.hub import get_config

from mmsskd.distill.build import build_model
from mmsskd.errors import ConfigError
from mmsskd.utils.detections import Detections, image_size

pytest.importorskip('mmcv.ops')
from mmdet.structures import DetDataSample

CONFIGS = dict(
    RetinaNet='retinanet/retinanet_r18_fpn_1x_coco.py',
    FCOS='fcos/fcos_r50-caffe_fpn_gn-head_1x_coco.py',
    ATSS='atss/atss_r50_fpn_1x_coco.py',
    GFL='gfl/gfl_r50_fpn_1x_coco.py',
)
SIDES = (192, 224)


def one_stage(kind: str) -> dict:
    """A detector of mmdet's zoo with the backbone of ours."""
    ours, model = detector(), get_config(f'mmdet::{CONFIGS[kind]}').model.to_dict()
    model.update(type=f'mmdet.{model["type"]}', backbone=ours['backbone'], data_preprocessor=ours['data_preprocessor'])
    model['neck'].update(in_channels=ours['neck']['in_channels'], out_channels=16)
    model['bbox_head'].update(in_channels=16, feat_channels=32, num_classes=10, stacked_convs=1)
    return model


@functools.cache
def make(kind: str) -> torch.nn.Module:
    """With weights that are so large that it finds something."""
    torch.manual_seed(0)
    with scope():
        per_class = {'roi_head.bbox_head.reg_class_agnostic': False}
        cfg = one_stage(kind) if kind in CONFIGS else detector(**(per_class if kind == 'per class' else {}))
        model = build_model(Config(dict(model=cfg)).model)
        model.init_weights()
    for name, value in model.named_parameters():
        if any(part in name for part in ('fc_', 'rpn_cls', 'rpn_reg', 'retina_', 'conv_cls', 'conv_reg', 'atss_')):
            torch.nn.init.normal_(value, std=0.3)
    return model.eval()


def photo(folder, model, sides=SIDES, height: int = 180, width: int = 200):
    """A photo, normalized and in its place, and its size."""
    path = sorted((folder / 'val').glob('*'))[0]
    image = torch.from_numpy(cv2.resize(cv2.imread(str(path)), (width, height))).permute(2, 0, 1)
    inputs = model.data_preprocessor(dict(inputs=[image]), False)['inputs']
    place = torch.zeros(1, 3, *sides)
    place[..., :height, :width] = inputs[..., :height, :width]
    return place, torch.tensor([float(height), float(width)])


def predicted(model, images, size):
    shape = tuple(size.int().tolist())
    sample = DetDataSample(metainfo=dict(img_shape=shape, batch_input_shape=images.shape[-2:], scale_factor=(1.0, 1.0)))
    with torch.no_grad(), scope():
        return model.predict(images, [sample], rescale=False)[0].pred_instances


@pytest.mark.parametrize('kind', ['Faster R-CNN', 'per class', 'RetinaNet', 'FCOS', 'ATSS'])
def test_finds_what_predict_finds(kind, photos):
    model = make(kind)
    images, size = photo(photos, model)
    expected = predicted(model, images, size)
    with torch.no_grad():
        boxes, scores, labels = Detections(model)(images, size)
    there = scores > 0
    limit = (model.test_cfg.get('rcnn') or model.test_cfg).max_per_img
    assert len(expected) >= 10 and there.sum() == len(expected) and len(boxes) == limit
    torch.testing.assert_close(boxes[there], expected.bboxes, rtol=0, atol=1e-4)
    torch.testing.assert_close(scores[there], expected.scores, rtol=0, atol=1e-6)
    assert torch.equal(labels[there], expected.labels)


def test_without_nms_the_candidates_come_out(photos):
    from torchvision.ops import batched_nms

    model = make('RetinaNet')
    images, size = photo(photos, model)
    expected = predicted(model, images, size)
    with torch.no_grad():
        boxes, scores, labels = Detections(model, nms=False)(images, size)
    best = batched_nms(boxes, scores, labels, 0.5)[:100]
    best = best[scores[best] > 0]
    torch.testing.assert_close(boxes[best], expected.bboxes, rtol=0, atol=1e-4)
    assert torch.equal(labels[best], expected.labels)


def test_what_predicts_in_another_way_is_refused_in_one_line(monkeypatch):
    with pytest.raises(
        ConfigError, match='GFL cannot be exported: GFLHead predicts in its own way. .* Use student.pth'
    ):
        Detections(make('GFL'))
    model = make('Faster R-CNN')
    monkeypatch.setitem(model.test_cfg.rcnn, 'nms', dict(type='soft_nms', iou_threshold=0.5))
    with pytest.raises(ConfigError, match="its test_cfg has nms={'type': 'soft_nms'"):
        Detections(model)
    monkeypatch.undo()
    monkeypatch.setattr(model.roi_head, 'mask_head', torch.nn.Identity(), raising=False)
    with pytest.raises(ConfigError, match='it predicts masks'):
        Detections(model)
    monkeypatch.setattr(model, 'roi_head', torch.nn.Identity())
    with pytest.raises(ConfigError, match='its roi_head is Identity'):
        Detections(model)


def test_images_have_the_size_of_the_test_pipeline_in_whole_strides():
    pipeline = [dict(type='LoadImageFromFile'), dict(type='mmdet.Resize', scale=(1333, 800), keep_ratio=True)]
    cfg = dict(
        model=dict(data_preprocessor=dict(pad_size_divisor=32)), test_dataloader=dict(dataset=dict(pipeline=pipeline))
    )
    assert image_size(cfg) == (800, 1344)
    with pytest.raises(ConfigError, match='of one size, the scale of Resize in test_dataloader.*; found no Resize'):
        image_size(dict(cfg, test_dataloader=dict(dataset=dict(pipeline=pipeline[:1]))))
