# Faster R-CNN with a ResNet-34 of the widths of digits_on_photos_r18_w16.py on digits on photos: its teacher where none of the two
# needs an adapter. Trained plainly.
_base_ = './digits_on_photos_r18_w16.py'

model = dict(backbone=dict(depth=34))
train_cfg = dict(max_epochs=16, val_interval=8)
