# What pairs on CIFAR-100 share; a pair adds teacher and student. 240 epochs in all, as many as plain training takes.
_base_ = [
    './datasets/cifar100.py',
    './schedules/cifar100_240e.py',
    './default_runtime.py',
]

model = dict(type='mmsskd.StagewiseDistiller', _scope_='mmpretrain', input_shape=(3, 32, 32))

# three stages, 70 epochs each, no labels; then the head alone: 30 epochs, from ground truth
default_hooks = dict(
    stage_schedule=dict(
        type='mmsskd.StageScheduleHook',
        transfer=dict(epochs=70),
        head=dict(
            epochs=30,
            param_scheduler=[dict(type='CosineAnnealingLR', by_epoch=True, convert_to_iter_based=True)],
        ),
    )
)
