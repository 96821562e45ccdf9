# Stage by stage on MS1MV2: IResNet-50 teaches MobileFaceNet. 20 epochs in all, as many as plain training.
# The teacher first: python tools/train.py configs/plain/face_r50_ms1mv2.py
# or a backbone that InsightFace released: model.teacher.head=None, model.teacher_checkpoint=backbone.pth
_base_ = [
    '../_base_/datasets/ms1mv2.py',
    '../_base_/datasets/ijba.py',
    '../_base_/schedules/face_20e.py',
    '../_base_/face_runtime.py',
]

model = dict(
    type='mmsskd.StagewiseDistiller',
    _scope_='mmpretrain',
    teacher=dict(cfg_path='mmsskd::plain/face_r50_ms1mv2.py'),
    teacher_checkpoint='work_dirs/face_r50_ms1mv2/epoch_20.pth',
    student=dict(cfg_path='mmsskd::plain/face_mobilefacenet_ms1mv2.py'),
    mimic_loss=dict(neck=dict(type='mmsskd.CosineMimicLoss')),  # mmsskd.FeatureMimicLoss: L2
    input_shape=(3, 112, 112),
)
test_dataloader = dict(dataset=dict(sets={{_base_.ijba_sets}}))

# layers.1, layers.3, layers.5, layers.7 and the embedding (neck): 3 epochs each, no labels;
# then the classifier alone: 5 epochs, from ground truth.
default_hooks = dict(
    stage_schedule=dict(type='mmsskd.StageScheduleHook', transfer=dict(epochs=3), head=dict(epochs=5)),
)
