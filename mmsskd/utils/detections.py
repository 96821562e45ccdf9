"""A detector of mmdet as a function of tensors alone, so that torch can export it."""

import logging
import math
from contextlib import ExitStack
from typing import Any
from unittest.mock import patch

import torch
from mmengine.logging import print_log
from torch import Tensor, nn

from ..errors import ConfigError
from ..registry import type_name


def is_detector(model: nn.Module) -> bool:
    """Whether a model has the heads of a detector of mmdet."""
    return hasattr(model, 'rpn_head') or (hasattr(model, 'bbox_head') and hasattr(model, 'test_cfg'))


def image_size(cfg: dict) -> tuple[int, int]:
    """Height and width of the images that a detector's file takes: those of the test pipeline's Resize, made whole strides.

    Args:
        cfg: Plain config of the detector.

    Raises:
        ConfigError: There is no Resize with one scale.
    """
    dataset = (cfg.get('test_dataloader') or cfg.get('val_dataloader') or {}).get('dataset') or {}
    scales = [each.get('scale') for each in dataset.get('pipeline') or () if type_name(each).endswith('Resize')]
    if not scales or not isinstance(scales[-1], (tuple, list)):
        raise ConfigError(
            f'a detector is exported for images of one size, the scale of Resize in test_dataloader.dataset.pipeline; found '
            f'{scales[-1] if scales else "no Resize"}'
        )
    width, height = scales[-1]
    preprocessor = cfg['model'].get('data_preprocessor') or cfg.get('data_preprocessor') or {}
    stride = preprocessor.get('pad_size_divisor', 1)
    return math.ceil(height / stride) * stride, math.ceil(width / stride) * stride


class Detections(nn.Module):
    """Boxes, scores and labels of one image, as ``model.predict`` gives them.

    All shapes are fixed: a place that no detection takes has the score 0. Two-stage detectors with a ``StandardRoIHead`` or a
    ``CascadeRoIHead``, without their masks, and one-stage detectors that predict as mmdet's ``BaseDenseHead`` (RetinaNet, FCOS,
    ATSS, RTMDet, SSD), ``GFLHead`` or ``YOLOXHead`` does.

    Args:
        model: In eval mode.
        nms: False: all candidates, before the last non-maximum suppression. That between the stages is always done.

    Inputs:
        images: (1, C, H, W) normalized, zeros at the right and below where the image is smaller.
        size: (2,) height and width of the image itself, in pixels; boxes are clipped to it.

    Returns:
        Boxes (K, 4) as x1, y1, x2, y2 in pixels of the input, scores (K,) and labels (K,), the best first. Without NMS in no
        order.

    Raises:
        ConfigError: The detector predicts in another way than those above.

    Example:
        >>> from mmsskd.utils.detections import is_detector
        >>> is_detector(torch.nn.Linear(1, 1))
        False
    """

    def __init__(self, model: nn.Module, nms: bool = True):
        super().__init__()
        why = _why_not(model)
        if why:
            raise ConfigError(
                f'{type(model).__name__} cannot be exported: {why}. Faster, Mask and Cascade R-CNN can be (boxes alone), '
                'RetinaNet, FCOS, ATSS, RTMDet, SSD, GFL and YOLOX. Use student.pth with mmdet'
            )
        if getattr(getattr(model, 'roi_head', None), 'with_mask', False):
            print_log(
                f'{type(model).__name__}: the file gives boxes, scores and labels; its masks are left out',
                logger='current',
                level=logging.WARNING,
            )
        self.model, self.nms = model, nms

    def forward(self, images: Tensor, size: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        model, features = self.model, self.model.extract_feat(images)
        if hasattr(model, 'rpn_head'):
            cfg = model.test_cfg.rcnn
            boxes, scores, labels = self._second_stage(features, *self._proposals(features, size), size)
        else:
            cfg = model.test_cfg
            boxes, scores, labels = _of_dense_head(model.bbox_head, features, cfg, size)
        if not self.nms:
            return boxes, scores, labels
        kept, there = _best(boxes, scores, labels, cfg)
        return boxes[kept], torch.where(there, scores[kept], 0.0), labels[kept]

    def _proposals(self, features, size: Tensor) -> tuple[Tensor, Tensor]:
        """Boxes (P, 4) of the first stage, and which of them are any."""
        cfg = self.model.test_cfg.rpn
        boxes, scores, levels = _of_dense_head(self.model.rpn_head, features, cfg, size)
        kept, there = _best(boxes, scores, levels, cfg)
        return boxes[kept], there & (scores[kept] > 0)

    def _second_stage(self, features, rois: Tensor, there: Tensor, size: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """As ``StandardRoIHead``, or as ``CascadeRoIHead``, each of whose heads starts from the boxes of the one before."""
        roi_head: Any = self.model.roi_head
        heads, logits = _each(roi_head.bbox_head), []
        for i, (head, extractor) in enumerate(zip(heads, _each(roi_head.bbox_roi_extractor), strict=True)):
            pooled = _pooled(extractor, features, rois)
            score, deltas = head(roi_head.shared_head(pooled) if roi_head.with_shared_head else pooled)
            logits.append(score)
            if i < len(heads) - 1:
                best = score[:, :-1].argmax(1)
                rois = _clipped(head.regress_by_class(rois, best, deltas, dict(img_shape=None)), size)
        scores = (sum(logits) / len(logits)).softmax(-1)[:, :-1]
        classes = scores.shape[1]
        if head.reg_class_agnostic:
            boxes = head.bbox_coder.decode(rois, deltas)[:, None].expand(-1, classes, 4)
        else:
            boxes = head.bbox_coder.decode(rois.repeat_interleave(classes, 0), deltas.reshape(-1, 4))
        scores = torch.where(there[:, None] & (scores > self.model.test_cfg.rcnn.score_thr), scores, 0.0)
        labels = torch.arange(classes).expand(len(rois), classes)
        return _clipped(boxes.reshape(-1, 4), size), scores.flatten(), labels.flatten()


def _each(value) -> list:
    """The parts of a cascade, or the one that there is."""
    return list(value) if isinstance(value, nn.ModuleList) else [value]


def _pooled(extractor, features, rois: Tensor) -> Tensor:
    """Each proposal pooled from each level, of which one is taken: no shape depends on the image."""
    from torchvision.ops import roi_align

    level = extractor.map_roi_levels(torch.cat([rois[:, :1] * 0, rois], 1), extractor.num_inputs)
    pooled = torch.zeros(())
    for i, layer in enumerate(extractor.roi_layers):
        here = roi_align(
            features[i], [rois], layer.output_size, layer.spatial_scale, layer.sampling_ratio, layer.aligned
        )
        pooled = torch.where((level == i)[:, None, None, None], here, pooled)
    return pooled


def _why_not(model: nn.Module) -> str | None:
    """Name what a detector does that :class:`Detections` does not."""
    from mmcv.ops import RoIAlign
    from mmdet.models.dense_heads import GFLHead, RPNHead, YOLOXHead
    from mmdet.models.dense_heads.base_dense_head import BaseDenseHead
    from mmdet.models.roi_heads import CascadeRoIHead, StandardRoIHead
    from mmdet.models.roi_heads.bbox_heads import BBoxHead
    from mmdet.models.roi_heads.roi_extractors import SingleRoIExtractor

    if hasattr(model, 'rpn_head'):
        kinds, head, configs = [RPNHead], model.rpn_head, [model.test_cfg.rpn, model.test_cfg.get('rcnn')]
        roi_head = getattr(model, 'roi_head', None)
        if type(roi_head) not in (StandardRoIHead, CascadeRoIHead):
            return f'its roi_head is {type(roi_head).__name__}'
        for extractor in _each(roi_head.bbox_roi_extractor):
            if type(extractor) is not SingleRoIExtractor or not all(
                type(each) is RoIAlign for each in extractor.roi_layers
            ):
                return 'it pools with another extractor than SingleRoIExtractor, or another layer than RoIAlign'
        for box_head in _each(roi_head.bbox_head):
            own = _differs(box_head, BBoxHead, ('predict_by_feat', '_predict_by_feat_single', 'regress_by_class'))
            if own or box_head.custom_activation:
                return f'{type(box_head).__name__} predicts in its own way'
        heads = [head, *_each(roi_head.bbox_head)]
    else:
        kinds, head, configs = [BaseDenseHead, GFLHead, YOLOXHead], model.bbox_head, [model.test_cfg]
        heads = [head]
    names = ('predict', 'predict_by_feat', '_predict_by_feat_single', '_bbox_post_process')
    if not any(isinstance(head, kind) and not _differs(head, kind, names) for kind in kinds):
        return f'{type(head).__name__} predicts in its own way'
    for coder in (getattr(each, 'bbox_coder', None) for each in heads):
        if not getattr(coder, 'clip_border', True):
            return f'its {type(coder).__name__} has clip_border=False'
    for cfg in configs:
        nms = dict(cfg.get('nms') or {})
        if nms.get('type') != 'nms' or set(nms) - {'type', 'iou_threshold', 'split_thr'}:
            return f'its test_cfg has nms={nms or None}, not dict(type="nms", iou_threshold=...)'
    return None


def _differs(value, kind: type, names: tuple[str, ...]) -> bool:
    return any(getattr(type(value), name, None) is not getattr(kind, name) for name in names)


def _of_dense_head(head, features, cfg, size: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Boxes, scores and labels (an RPN's levels) of the candidates, by mmdet's own ``predict_by_feat``.

    Two of its steps give shapes that depend on the image: the filter, in whose place is ours meanwhile, and what comes after the
    boxes. What mmdet leaves out has the score 0 here.
    """
    outputs = head(features)
    if hasattr(head, 'multi_level_conv_obj'):
        return _of_yolox(head, outputs, cfg)
    with ExitStack() as meanwhile:
        meanwhile.enter_context(
            patch.dict(type(head)._predict_by_feat_single.__globals__, filter_scores_and_topk=_filter)
        )
        meanwhile.enter_context(patch.object(head, '_bbox_post_process', lambda results, **_: results))
        if hasattr(head, 'integral'):  # GFL's; torch cannot write as ONNX the buffer that its type_as() is called on
            project = head.integral.project * 1.0
            meanwhile.enter_context(patch.dict(head.integral._buffers, project=project))
        (found,) = head.predict_by_feat(*outputs, batch_img_metas=[dict(img_shape=None)], cfg=cfg)
    boxes, scores = _clipped(found.bboxes, size), found.scores * found.get('score_factors', 1.0)
    least = cfg.get('min_bbox_size', -1)
    if least >= 0:
        scores = torch.where((boxes[:, 2:] - boxes[:, :2] > least).all(1), scores, 0.0)
    return boxes, scores, found.labels if 'labels' in found else found.level_ids


def _filter(scores: Tensor, score_thr: float, topk: int, results: dict) -> tuple[Tensor, Tensor, Tensor, dict]:
    """Do what ``filter_scores_and_topk`` of mmdet does, for the same number of candidates on each image."""
    best, place = scores.flatten().topk(min(topk, scores.numel()) if topk > 0 else scores.numel())
    where, labels = place // scores.shape[1], place % scores.shape[1]
    best = torch.where(best > score_thr, best, 0.0)
    return best, labels, where, {name: value[where] for name, value in results.items()}


def _of_yolox(head, outputs, cfg) -> tuple[Tensor, Tensor, Tensor]:
    """As ``YOLOXHead.predict_by_feat``: one class a place, and boxes that may reach out of the image."""
    sizes = [each.shape[-2:] for each in outputs[0]]
    priors = torch.cat(head.prior_generator.grid_priors(sizes, with_stride=True, device=outputs[0][0].device))
    classes, deltas, objects = (torch.cat([each[0].flatten(1).T for each in levels]) for levels in outputs)
    best, labels = classes.sigmoid().max(1)
    scores = best * objects.flatten().sigmoid()
    return head._bbox_decode(priors, deltas), torch.where(scores >= cfg.score_thr, scores, 0.0), labels


def _clipped(boxes: Tensor, size: Tensor) -> Tensor:
    return torch.minimum(boxes.clamp(min=0), size.flip(0).repeat(2))


def _best(boxes: Tensor, scores: Tensor, groups: Tensor, cfg) -> tuple[Tensor, Tensor]:
    """Places of the ``max_per_img`` best boxes that no better one of their group covers, and which of these places are any."""
    from torchvision.ops import nms

    largest = torch.where(scores[:, None] > 0, boxes, 0.0).max()
    apart = boxes + (groups.to(boxes) * (largest + 1))[:, None]  # so that boxes of two groups never touch
    kept = nms(apart, scores, cfg.nms.iou_threshold)
    count = cfg.get('max_per_img', -1)
    count = count if count > 0 else len(boxes)
    kept = torch.cat([kept, kept.new_full((count,), -1)])[:count]
    return kept.clamp(min=0), kept >= 0
