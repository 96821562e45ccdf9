# Stage by stage on BCCD: Faster R-CNN with ResNet-50 teaches one with ResNet-18. 100 epochs in all, as many as plain training
# takes: the backbone and the FPN, then everything with boxes. The teacher first: python tools/train.py configs/plain/bccd_r50.py
_base_ = ['../_base_/datasets/bccd.py', '../_base_/schedules/bccd_100e.py', '../_base_/detection_runtime.py']

model = dict(
    type='mmsskd.StagewiseDistiller',
    _scope_='mmdet',
    teacher=dict(cfg_path='mmsskd::plain/bccd_r50.py'),
    teacher_checkpoint='work_dirs/bccd_r50/epoch_100.pth',
    student=dict(cfg_path='mmsskd::plain/bccd_r18.py'),
    stages=['layer1', 'layer2', 'layer3', 'layer4', 'neck'],
)
default_hooks = dict(
    stage_schedule=dict(
        type='mmsskd.StageScheduleHook',
        phases=[
            dict(train='layer1', epochs=5),
            dict(train=['layer1', 'layer2'], epochs=5),
            dict(train=['layer1', 'layer2', 'layer3'], epochs=5),
            dict(train=['layer1', 'layer2', 'layer3', 'layer4'], epochs=5),
            dict(train='stages', epochs=20),
            dict(train='all', epochs=60),
        ],
    )
)
