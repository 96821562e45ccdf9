"""A detector of mmdet as a function of tensors alone, so that torch can export it."""

import math
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import ConfigError


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
    scales = [each.get('scale') for each in dataset.get('pipeline') or () if each['type'].endswith('Resize')]
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

    All shapes are fixed: a place that no detection takes has the score 0. Two-stage detectors with a ``StandardRoIHead`` and
    one-stage detectors that predict as mmdet's ``BaseDenseHead`` does (RetinaNet, FCOS, ATSS, SSD).

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
                f'{type(model).__name__} cannot be exported: {why}. Two-stage detectors with a StandardRoIHead for boxes can be, '
                'and one-stage ones that predict as BaseDenseHead does (RetinaNet, FCOS, ATSS, SSD). Use student.pth with mmdet'
            )
        self.model, self.nms = model, nms

    def forward(self, images: Tensor, size: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        model, features = self.model, self.model.extract_feat(images)
        if hasattr(model, 'rpn_head'):
            cfg = model.test_cfg.rcnn
            boxes, scores, labels = self._second_stage(features, *self._proposals(features, size), size)
        else:
            cfg = model.test_cfg
            boxes, scores, labels, _ = _of_dense_head(model.bbox_head, features, cfg, size)
        if not self.nms:
            return boxes, scores, labels
        kept, there = _best(boxes, scores, labels, cfg)
        return boxes[kept], torch.where(there, scores[kept], 0.0), labels[kept]

    def _proposals(self, features, size: Tensor) -> tuple[Tensor, Tensor]:
        """Boxes (P, 4) of the first stage, and which of them are any."""
        cfg = self.model.test_cfg.rpn
        boxes, scores, _, level = _of_dense_head(self.model.rpn_head, features, cfg, size)
        kept, there = _best(boxes, scores, level, cfg)
        return boxes[kept], there & (scores[kept] > 0)

    def _second_stage(self, features, rois: Tensor, there: Tensor, size: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """As ``StandardRoIHead``, each proposal pooled from each level, of which one is taken: no shape depends on the image."""
        from torchvision.ops import roi_align

        roi_head: Any = self.model.roi_head
        head = roi_head.bbox_head
        extractor = roi_head.bbox_roi_extractor
        level = extractor.map_roi_levels(torch.cat([rois[:, :1] * 0, rois], 1), extractor.num_inputs)
        pooled = torch.zeros(())
        for i, layer in enumerate(extractor.roi_layers):
            here = roi_align(
                features[i], [rois], layer.output_size, layer.spatial_scale, layer.sampling_ratio, layer.aligned
            )
            pooled = torch.where((level == i)[:, None, None, None], here, pooled)
        if roi_head.with_shared_head:
            pooled = roi_head.shared_head(pooled)
        scores, deltas = head(pooled)
        scores = scores.softmax(-1)[:, :-1]
        classes = scores.shape[1]
        if head.reg_class_agnostic:
            boxes = head.bbox_coder.decode(rois, deltas)[:, None].expand(-1, classes, 4)
        else:
            boxes = head.bbox_coder.decode(rois.repeat_interleave(classes, 0), deltas.reshape(-1, 4))
        scores = torch.where(there[:, None] & (scores > self.model.test_cfg.rcnn.score_thr), scores, 0.0)
        labels = torch.arange(classes).expand(len(rois), classes)
        return _clipped(boxes.reshape(-1, 4), size), scores.flatten(), labels.flatten()


def _why_not(model: nn.Module) -> str | None:
    """Name what a detector does that :class:`Detections` does not."""
    from mmcv.ops import RoIAlign
    from mmdet.models.dense_heads import RPNHead
    from mmdet.models.dense_heads.base_dense_head import BaseDenseHead
    from mmdet.models.roi_heads import StandardRoIHead
    from mmdet.models.roi_heads.bbox_heads import BBoxHead
    from mmdet.models.roi_heads.roi_extractors import SingleRoIExtractor

    if hasattr(model, 'rpn_head'):
        kind, head, configs = RPNHead, model.rpn_head, [model.test_cfg.rpn, model.test_cfg.get('rcnn')]
        roi_head = getattr(model, 'roi_head', None)
        if type(roi_head) is not StandardRoIHead:
            return f'its roi_head is {type(roi_head).__name__}'
        if roi_head.with_mask:
            return 'it predicts masks'
        extractor = roi_head.bbox_roi_extractor
        if type(extractor) is not SingleRoIExtractor or not all(
            type(each) is RoIAlign for each in extractor.roi_layers
        ):
            return 'it pools with another extractor than SingleRoIExtractor, or another layer than RoIAlign'
        box_head = roi_head.bbox_head
        if _differs(box_head, BBoxHead, ('predict_by_feat', '_predict_by_feat_single')) or box_head.custom_activation:
            return f'{type(box_head).__name__} predicts in its own way'
    else:
        kind, head, configs = BaseDenseHead, model.bbox_head, [model.test_cfg]
    names = ('predict', 'predict_by_feat', '_predict_by_feat_single', '_bbox_post_process')
    if not isinstance(head, kind) or _differs(head, kind, names):
        return f'{type(head).__name__} predicts in its own way'
    if getattr(head.loss_cls, 'custom_cls_channels', False):
        return f'{type(head.loss_cls).__name__} has its own scores'
    for cfg in configs:
        nms = dict(cfg.get('nms') or {})
        if nms.get('type') != 'nms' or set(nms) - {'type', 'iou_threshold', 'split_thr'}:
            return f'its test_cfg has nms={nms or None}, not dict(type="nms", iou_threshold=...)'
    return None


def _differs(value, kind: type, names: tuple[str, ...]) -> bool:
    return any(getattr(type(value), name, None) is not getattr(kind, name) for name in names)


def _of_dense_head(head, features, cfg, size: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Boxes, scores, labels and levels of the ``nms_pre`` best of each level; as mmdet's ``_predict_by_feat_single``.

    What mmdet leaves out there has the score 0 here.
    """
    scores, deltas, *factors = head(features)
    sizes = [each.shape[-2:] for each in scores]
    priors = head.prior_generator.grid_priors(sizes, dtype=scores[0].dtype, device=scores[0].device)
    found = []
    for i, prior in enumerate(priors):
        delta = deltas[i][0].permute(1, 2, 0).reshape(-1, head.bbox_coder.encode_size)
        score = scores[i][0].permute(1, 2, 0).reshape(-1, head.cls_out_channels)
        score = score.sigmoid() if head.use_sigmoid_cls else score.softmax(-1)[:, :-1]
        count = cfg.get('nms_pre', -1)
        best, place = score.flatten().topk(min(count, score.numel()) if count > 0 else score.numel())
        where, label = place // score.shape[1], place % score.shape[1]
        weight = factors[0][i][0].flatten().sigmoid()[where] if factors else 1.0
        best = torch.where(best > cfg.get('score_thr', 0), best * weight, 0.0)
        boxes = _clipped(head.bbox_coder.decode(prior[where], delta[where]), size)
        least = cfg.get('min_bbox_size', -1)
        if least >= 0:
            best = torch.where((boxes[:, 2:] - boxes[:, :2] > least).all(1), best, 0.0)
        found.append((boxes, best, label, torch.full_like(label, i)))
    boxes, best, label, level = (torch.cat(each) for each in zip(*found))
    return boxes, best, label, level


def _clipped(boxes: Tensor, size: Tensor) -> Tensor:
    return torch.minimum(boxes.clamp(min=0), size.flip(0).repeat(2))


def _best(boxes: Tensor, scores: Tensor, groups: Tensor, cfg) -> tuple[Tensor, Tensor]:
    """Places of the ``max_per_img`` best boxes that no better one of their group covers, and which of these places are any."""
    from torchvision.ops import nms

    apart = boxes + (groups.to(boxes) * (boxes.max() + 1))[:, None]  # so that boxes of two groups never touch
    kept = nms(apart, scores, cfg.nms.iou_threshold)
    count = cfg.max_per_img if cfg.max_per_img > 0 else len(boxes)
    kept = torch.cat([kept, kept.new_full((count,), -1)])[:count]
    return kept.clamp(min=0), kept >= 0
