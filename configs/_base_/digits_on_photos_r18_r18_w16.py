# A Faster R-CNN with ResNet-18 teaches one with half its width on digits on photos: what all ways of distilling share.
# The data and the teacher first: python tools/make_digits_on_photos.py; python tools/train.py configs/plain/digits_on_photos_r18.py
_base_ = [
    './datasets/digits_on_photos.py',
    './schedules/digits_on_photos_12e.py',
    './detection_runtime.py',
]

model = dict(
    type='mmsskd.StagewiseDistiller',
    _scope_='mmdet',
    teacher=dict(cfg_path='mmsskd::plain/digits_on_photos_r18.py'),
    teacher_checkpoint='work_dirs/digits_on_photos_r18/epoch_16.pth',
    student=dict(cfg_path='mmsskd::plain/digits_on_photos_r18_w16.py'),
    stages=['layer1', 'layer2', 'layer3', 'layer4', 'neck'],
    input_shape=(3, 160, 160),
)
default_hooks = dict(stage_schedule=dict(type='mmsskd.StageScheduleHook'))
