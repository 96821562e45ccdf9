"""Detectors as functions of tensors: what `predict` gives, to the bit, on photos that do not fill their place."""

import functools

import cv2
import pytest
import torch
from detection import detector, scope
from helpers import require_ops
from mmengine.config import Config
from mmengine.hub import get_config

from mmsskd.distill.build import build_model
from mmsskd.errors import ConfigError
from mmsskd.utils import detections
from mmsskd.utils.detections import Detections, image_size

require_ops()
from mmdet.structures import DetDataSample  # noqa: E402  not there without the ops

CONFIGS = dict(
    RetinaNet='retinanet/retinanet_r18_fpn_1x_coco.py',
    FCOS='fcos/fcos_r50-caffe_fpn_gn-head_1x_coco.py',
    ATSS='atss/atss_r50_fpn_1x_coco.py',
    GFL='gfl/gfl_r50_fpn_1x_coco.py',
    RTMDet='rtmdet/rtmdet_tiny_8xb32-300e_coco.py',
    YOLOX='yolox/yolox_tiny_8xb8-300e_coco.py',
    TOOD='tood/tood_r50_fpn_1x_coco.py',
)
TWO_STAGES = {
    'Cascade R-CNN': 'cascade_rcnn/cascade-rcnn_r50_fpn_1x_coco.py',
    'Mask R-CNN': 'mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py',
}
LAST = ('fc_', 'rpn_cls', 'rpn_reg', 'retina_', 'conv_cls', 'conv_reg', 'atss_', 'conv_obj')  # names of last layers
SIDES = (192, 224)


def one_stage(kind: str) -> dict:
    """A detector of mmdet's zoo with the backbone of ours."""
    ours, model = detector(), get_config(f'mmdet::{CONFIGS[kind]}').model.to_dict()
    model.update(type=f'mmdet.{model["type"]}', data_preprocessor=ours['data_preprocessor'])
    model['bbox_head'].update(feat_channels=32, num_classes=10, stacked_convs=1)
    if kind in ('RTMDet', 'YOLOX'):  # with a CSP neck, which needs the backbone of its own kind
        model['backbone'].update(deepen_factor=0.1, widen_factor=0.125, init_cfg=None)
        model['neck'].update(in_channels=[32, 64, 128], out_channels=16, num_csp_blocks=1)
        model['bbox_head'].update(in_channels=16)
        return model
    model['backbone'] = ours['backbone']
    model['neck'].update(in_channels=ours['neck']['in_channels'], out_channels=16)
    model['bbox_head'].update(in_channels=16)
    return model


def two_stages(kind: str) -> dict:
    """A detector of mmdet's zoo with the backbone and the heads of ours, as often as it has them."""
    ours, model = detector(), get_config(f'mmdet::{TWO_STAGES[kind]}').model.to_dict()
    head = ours['roi_head']['bbox_head']
    given = model['roi_head']['bbox_head']
    model['roi_head'].update(
        bbox_roi_extractor=ours['roi_head']['bbox_roi_extractor'],
        bbox_head=[dict(head, bbox_coder=each['bbox_coder']) for each in given] if isinstance(given, list) else head,
    )
    if 'mask_head' in model['roi_head']:
        model['roi_head']['mask_roi_extractor'].update(out_channels=16)
        model['roi_head']['mask_head'].update(in_channels=16, conv_out_channels=8, num_classes=10)
        ours['test_cfg']['rcnn']['mask_thr_binary'] = 0.5
    parts = {name: ours[name] for name in ('backbone', 'neck', 'rpn_head', 'test_cfg', 'data_preprocessor')}
    return dict(model, type=f'mmdet.{model["type"]}', **parts)


@functools.cache
def make(kind: str) -> torch.nn.Module:
    """With weights that are so large that it finds something."""
    torch.manual_seed(0)
    with scope():
        per_class = {'roi_head.bbox_head.reg_class_agnostic': False}
        if kind in CONFIGS:
            cfg = one_stage(kind)
        elif kind in TWO_STAGES:
            cfg = two_stages(kind)
        else:
            cfg = detector(**(per_class if kind == 'per class' else {}))
        model = build_model(Config(dict(model=cfg)).model)
        model.init_weights()
    for name, value in model.named_parameters():
        if any(part in name for part in LAST):
            torch.nn.init.normal_(value, std=0.3)
        elif 'gfl_cls' in name or 'rtm_cls' in name:
            torch.nn.init.normal_(value, std=0.05)  # so that scores are not all 1
        elif 'rtm_reg' in name:
            torch.nn.init.uniform_(value, 0, 0.5)  # sides are positive
    if kind in ('RTMDet', 'YOLOX'):  # as it is, the last features would be the same everywhere
        for module in model.modules():
            module.momentum = 1.0  # of batch normalization: its statistics are those of the next batch
        with torch.no_grad():
            model.bbox_head(model.train().extract_feat(torch.randn(2, 3, *SIDES)))
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
    sizes = dict(img_shape=shape, ori_shape=shape, batch_input_shape=images.shape[-2:])
    sample = DetDataSample(metainfo=dict(sizes, scale_factor=(1.0, 1.0)))
    with torch.no_grad(), scope():
        return model.predict(images, [sample], rescale=False)[0].pred_instances


def check_same(boxes, scores, labels, expected, pixels: float = 1e-3, score: float = 1e-5) -> None:
    """The same detections; those of one score in any order."""
    rows = [
        torch.cat([boxes / pixels, scores[:, None] / score, labels[:, None] * 1e3], 1)
        for boxes, scores, labels in (
            (boxes, scores, labels),
            (expected.bboxes, expected.scores, expected.labels),
        )
    ]
    assert len(rows[0]) == len(rows[1]) and (scores.diff() <= 0).all()
    apart = torch.cdist(*rows, p=float('inf'))
    assert max(apart.min(side).values.max() for side in (0, 1)) < 1


@pytest.mark.parametrize(
    'kind', ['Faster R-CNN', 'per class', *TWO_STAGES, *(each for each in CONFIGS if each != 'TOOD')]
)
def test_finds_what_predict_finds(kind, photos):
    model = make(kind)
    images, size = photo(photos, model)
    expected = predicted(model, images, size)
    with torch.no_grad():
        boxes, scores, labels = Detections(model)(images, size)
    there = scores > 0
    assert len(expected) >= 10
    assert kind == 'YOLOX' or len(boxes) == (model.test_cfg.get('rcnn') or model.test_cfg).max_per_img
    check_same(boxes[there], scores[there], labels[there], expected)


@pytest.mark.parametrize('kind', ['RetinaNet', 'GFL', 'Cascade R-CNN'])
def test_without_nms_the_candidates_come_out(kind, photos):
    from torchvision.ops import batched_nms

    model = make(kind)
    images, size = photo(photos, model)
    expected = predicted(model, images, size)
    with torch.no_grad():
        boxes, scores, labels = Detections(model, nms=False)(images, size)
    cfg = model.test_cfg.get('rcnn') or model.test_cfg
    best = batched_nms(boxes, scores, labels, cfg.nms.iou_threshold)[: cfg.max_per_img]
    best = best[scores[best] > 0]
    check_same(boxes[best], scores[best], labels[best], expected)


def test_masks_are_left_out_with_a_word(monkeypatch):
    told = []
    monkeypatch.setattr(detections, 'print_log', lambda text, **_: told.append(text))
    Detections(make('Faster R-CNN'))
    Detections(make('Mask R-CNN'))
    assert told == ['MaskRCNN: the file gives boxes, scores and labels; its masks are left out']


def test_what_predicts_in_another_way_is_refused_in_one_line(monkeypatch):
    with pytest.raises(
        ConfigError,
        match='TOOD cannot be exported: TOODHead predicts in its own way. .* GFL and YOLOX. Use student.pth',
    ):
        Detections(make('TOOD'))
    model = make('Faster R-CNN')
    monkeypatch.setitem(model.test_cfg.rcnn, 'nms', dict(type='soft_nms', iou_threshold=0.5))
    with pytest.raises(ConfigError, match="its test_cfg has nms={'type': 'soft_nms'"):
        Detections(model)
    monkeypatch.undo()
    monkeypatch.setattr(model.roi_head.bbox_head.bbox_coder, 'clip_border', False)
    with pytest.raises(ConfigError, match='DeltaXYWHBBoxCoder has clip_border=False'):
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
