# Faster R-CNN with ResNet-18, of a quarter of the usual width, and FPN on BCCD at a third of its size: trained plainly.
_base_ = './bccd_160_r18.py'

model = dict(backbone=dict(base_channels=16, stem_channels=16), neck=dict(in_channels=[16, 32, 64, 128]))
