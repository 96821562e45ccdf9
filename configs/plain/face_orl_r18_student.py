# IResNet-18 of an eighth of the width with CosFace on the ORL faces at 64x64, trained plainly for a quarter of the
# teacher's epochs.
_base_ = './face_orl_r18.py'

model = dict(backbone=dict(base_channels=8), neck=dict(in_channels=64))
train_cfg = dict(max_epochs=15, val_interval=5)
default_hooks = dict(checkpoint=dict(interval=15))
