# What pairs of face models share; a pair adds the training set, teacher and student. 20 epochs in all, as many as plain training.
# Teachers are trained first, or released by InsightFace: model.teacher.head=None, model.teacher_checkpoint=backbone.pth
_base_ = [
    './datasets/ijba.py',
    './schedules/face_20e.py',
    './face_runtime.py',
]

model = dict(
    type='mmsskd.StagewiseDistiller',
    _scope_='mmpretrain',
    mimic_loss=dict(neck=dict(type='mmsskd.CosineMimicLoss')),  # mmsskd.FeatureMimicLoss: L2
    input_shape=(3, 112, 112),
)

# four stages and the embedding (neck): 3 epochs each, no labels; then the classifier alone: 5 epochs, from ground truth
default_hooks = dict(
    stage_schedule=dict(type='mmsskd.StageScheduleHook', transfer=dict(epochs=3), head=dict(epochs=5)),
)
