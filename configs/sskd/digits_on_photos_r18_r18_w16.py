# Stage by stage on digits on photos: Faster R-CNN with ResNet-18 teaches one with half its width, which needs adapters.
# 6 epochs in all, as many as plain training: one for each of four stages and the neck, one for the head.
# The data and the teacher first: python tools/make_digits_on_photos.py; python tools/train.py configs/plain/digits_on_photos_r18.py
_base_ = '../_base_/digits_on_photos_r18_r18_w16.py'

default_hooks = dict(stage_schedule=dict(transfer=dict(epochs=1), head=dict(epochs=1)))
train_cfg = dict(max_epochs=6, val_interval=3)
