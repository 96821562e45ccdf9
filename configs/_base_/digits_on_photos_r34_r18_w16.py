# A Faster R-CNN with ResNet-34 teaches one with ResNet-18 of the same widths on digits on photos, as ResNet-101 teaches ResNet-50
# on COCO: what all ways of distilling share. The data and the teacher first:
#   python tools/make_digits_on_photos.py; python tools/train.py configs/plain/digits_on_photos_r34_w16.py
_base_ = './digits_on_photos_r18_r18_w16.py'

model = dict(
    teacher=dict(cfg_path='mmsskd::plain/digits_on_photos_r34_w16.py'),
    teacher_checkpoint='work_dirs/digits_on_photos_r34_w16/epoch_16.pth',
)
