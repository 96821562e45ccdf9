# Stage by stage on the ORL faces: an IResNet-18 teaches one of a quarter of its width. 60 epochs in all, as many as plain training.
# The data (_base_/datasets/orl_faces.py) and the teacher first: python tools/train.py configs/plain/face_orl_r18.py
_base_ = [
    '../_base_/datasets/orl_faces.py',
    '../_base_/schedules/orl_faces_60e.py',
    '../_base_/face_runtime.py',
]

model = dict(
    type='mmsskd.StagewiseDistiller',
    _scope_='mmpretrain',
    teacher=dict(cfg_path='mmsskd::plain/face_orl_r18.py'),
    teacher_checkpoint='work_dirs/face_orl_r18/epoch_60.pth',
    student=dict(cfg_path='mmsskd::plain/face_orl_r18_student.py'),
    mimic_losses=dict(neck=dict(type='mmsskd.CosineMimicLoss')),
    input_shape=(3, 64, 64),
)

# layer1 to layer4 and the embedding (neck): 11 epochs each, no labels; then the classifier alone: 5 epochs, from ground truth.
default_hooks = dict(
    logger=dict(interval=6),
    checkpoint=dict(interval=60),
    stage_schedule=dict(type='mmsskd.StageScheduleHook', transfer=dict(epochs=11), head=dict(epochs=5)),
)
