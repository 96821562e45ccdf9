# IResNet-18 of an eighth of the width with CosFace on the ORL faces at 64x64, trained plainly.
_base_ = './face_orl_r18.py'

model = dict(backbone=dict(base_channels=8), neck=dict(in_channels=64))
