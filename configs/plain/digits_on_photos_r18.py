# Faster R-CNN with ResNet-18 on digits on photos, the teacher: trained plainly.
_base_ = [
    '../_base_/models/small_faster_rcnn.py',
    '../_base_/datasets/digits_on_photos.py',
    '../_base_/schedules/digits_on_photos_12e.py',
    '../_base_/detection_runtime.py',
]

model = dict(
    backbone=dict(base_channels=32, stem_channels=32),
    neck=dict(in_channels=[32, 64, 128, 256]),
)
train_cfg = dict(max_epochs=16, val_interval=8)
