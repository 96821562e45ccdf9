# Faster R-CNN with ResNet-50 and FPN on BCCD, from scratch: trained plainly.
_base_ = [
    'mmdet::_base_/models/faster-rcnn_r50_fpn.py',
    '../_base_/datasets/bccd.py',
    '../_base_/schedules/bccd_100e.py',
    '../_base_/detection_runtime.py',
]

model = dict(
    _scope_='mmdet',
    # mmdet's defaults keep stem, first stage and BN statistics as ImageNet left them
    backbone=dict(frozen_stages=-1, norm_eval=False, init_cfg=None),
    roi_head=dict(bbox_head=dict(num_classes=3)),
)
