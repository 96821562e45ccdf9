# IResNet-18 of half width with CosFace on the ORL faces at 64x64, trained plainly; the teacher of the demo.
_base_ = [
    '../_base_/models/iresnet.py',
    '../_base_/datasets/orl_faces.py',
    '../_base_/schedules/orl_faces_60e.py',
    '../_base_/face_runtime.py',
]

model = dict(
    backbone=dict(depth=18, base_channels=32, input_size=64),
    neck=dict(in_channels=256, feature_size=4, num_features=128),
    head=dict(num_classes=20, in_channels=128, margin='cosface', s=30.0, m=0.35),
)
default_hooks = dict(logger=dict(interval=6), checkpoint=dict(interval=60))
