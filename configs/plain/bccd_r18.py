# Faster R-CNN with ResNet-18 and FPN on BCCD, from scratch: trained plainly.
_base_ = './bccd_r50.py'

model = dict(backbone=dict(depth=18), neck=dict(in_channels=[64, 128, 256, 512]))
