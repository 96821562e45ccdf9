# The student of digits_on_photos_r18_w16.py where only the first 80 of the 800 images have boxes: trained plainly on those for as
# many iterations.
_base_ = './digits_on_photos_r18_w16.py'

train_dataloader = dict(dataset=dict(indices=80))
train_cfg = dict(max_epochs=60, val_interval=30)
default_hooks = dict(checkpoint=dict(interval=30))
