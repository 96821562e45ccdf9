# Stage by stage on CIFAR-100: ResNet-32x4 teaches ResNet-8x4. 240 epochs in all, as many as plain training takes.
# The teacher first: python tools/train.py configs/plain/cifar100_r32x4.py
_base_ = [
    '../_base_/datasets/cifar100.py',
    '../_base_/schedules/cifar100_240e.py',
    '../_base_/default_runtime.py',
]

model = dict(
    type='mmsskd.StagewiseDistiller',
    _scope_='mmpretrain',
    teacher=dict(cfg_path='mmsskd::plain/cifar100_r32x4.py'),
    teacher_checkpoint='work_dirs/cifar100_r32x4/epoch_240.pth',
    student=dict(cfg_path='mmsskd::plain/cifar100_r8x4.py'),
    input_shape=(3, 32, 32),
)

# layer1, layer2, layer3: 70 epochs each, no labels; then the head alone: 30 epochs, from ground truth.
cosine = dict(type='CosineAnnealingLR', by_epoch=True, convert_to_iter_based=True)
default_hooks = dict(
    stage_schedule=dict(
        type='mmsskd.StageScheduleHook',
        transfer=dict(epochs=70),
        head=dict(epochs=30, param_scheduler=[cosine]),
    )
)
