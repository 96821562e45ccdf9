# Faster R-CNN with ResNet-18, of half the usual width, and FPN on BCCD at a third of its size, the teacher: trained plainly, from
# scratch.
_base_ = [
    '../_base_/models/small_faster_rcnn.py',
    '../_base_/datasets/bccd_160.py',
    '../_base_/schedules/bccd_100e.py',
    '../_base_/detection_runtime.py',
]

model = dict(
    backbone=dict(base_channels=32, stem_channels=32),
    neck=dict(in_channels=[32, 64, 128, 256]),
    roi_head=dict(bbox_head=dict(num_classes=3)),
    test_cfg=dict(rcnn=dict(max_per_img=100)),  # a photo has up to thirty cells
)
train_cfg = dict(max_epochs=40, val_interval=10)
