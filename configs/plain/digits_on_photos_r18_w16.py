# Faster R-CNN with a ResNet-18 of a quarter of the usual width on digits on photos, the student of both pairs: trained plainly,
# for three eighths of the teacher's epochs.
_base_ = './digits_on_photos_r18.py'

model = dict(
    backbone=dict(base_channels=16, stem_channels=16),
    neck=dict(in_channels=[16, 32, 64, 128]),
)
train_cfg = dict(max_epochs=6, val_interval=3)
