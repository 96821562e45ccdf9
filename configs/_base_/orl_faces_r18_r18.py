# An IResNet-18 teaches one of a quarter of its width on the ORL faces: what all ways of distilling share.
# The data (datasets/orl_faces.py) and the teacher first: python tools/train.py configs/plain/face_orl_r18.py
_base_ = [
    './datasets/orl_faces.py',
    './schedules/orl_faces_60e.py',
    './face_runtime.py',
]

model = dict(
    type='mmsskd.StagewiseDistiller',
    _scope_='mmpretrain',
    teacher=dict(cfg_path='mmsskd::plain/face_orl_r18.py'),
    teacher_checkpoint='work_dirs/face_orl_r18/epoch_60.pth',
    student=dict(cfg_path='mmsskd::plain/face_orl_r18_student.py'),
    mimic_loss=dict(neck=dict(type='mmsskd.CosineMimicLoss')),
    input_shape=(3, 64, 64),
)
default_hooks = dict(logger=dict(interval=6), stage_schedule=dict(type='mmsskd.StageScheduleHook'))
