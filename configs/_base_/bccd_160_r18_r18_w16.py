# A Faster R-CNN with ResNet-18 teaches one with half its width on BCCD at a third of its size: what all ways of distilling share.
# The teacher first: python tools/train.py configs/plain/bccd_160_r18.py
_base_ = ['./datasets/bccd_160.py', './schedules/bccd_100e.py', './detection_runtime.py']

model = dict(
    type='mmsskd.StagewiseDistiller',
    _scope_='mmdet',
    teacher=dict(cfg_path='mmsskd::plain/bccd_160_r18.py'),
    teacher_checkpoint='work_dirs/bccd_160_r18/epoch_40.pth',
    student=dict(cfg_path='mmsskd::plain/bccd_160_r18_w16.py'),
    stages=['layer1', 'layer2', 'layer3', 'layer4', 'neck'],
    input_shape=(3, 160, 224),
)
train_cfg = dict(max_epochs=40, val_interval=10)
default_hooks = dict(stage_schedule=dict(type='mmsskd.StageScheduleHook'))
