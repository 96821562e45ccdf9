# Stage by stage on scikit-learn's digits: a wide ResNet-14 teaches a narrow ResNet-8. 48 epochs in all, as many as plain training.
# The teacher first: python tools/train.py configs/plain/digits_r14x2.py
_base_ = [
    '../_base_/datasets/digits.py',
    '../_base_/default_runtime.py',
    '../_base_/schedules/digits_48e.py',
]

model = dict(
    type='mmsskd.StagewiseDistiller',
    _scope_='mmpretrain',
    teacher=dict(cfg_path='mmsskd::plain/digits_r14x2.py'),
    teacher_checkpoint='work_dirs/digits_r14x2/epoch_32.pth',
    student=dict(cfg_path='mmsskd::plain/digits_r8.py'),
    input_shape=(1, 8, 8),
)

# layer1, layer2, layer3: 12 epochs each, no labels; then the head alone: 12 epochs, from ground truth.
default_hooks = dict(
    checkpoint=dict(interval=48),
    stage_schedule=dict(
        type='mmsskd.StageScheduleHook',
        transfer=dict(epochs=12),
        head=dict(epochs=12),
    ),
)
