# Faster R-CNN with a narrow ResNet-18 on digits on photos, the student: trained plainly.
_base_ = './digits_on_photos_r18.py'

model = dict(
    backbone=dict(base_channels=16, stem_channels=16),
    neck=dict(in_channels=[16, 32, 64, 128]),
)
