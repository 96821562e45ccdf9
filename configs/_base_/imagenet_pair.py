# What pairs on ImageNet-1k share; a pair adds teacher and student. 100 epochs in all, as many as plain training takes.
_base_ = [
    'mmpretrain::_base_/datasets/imagenet_bs32.py',
    'mmpretrain::_base_/schedules/imagenet_bs256.py',
    './default_runtime.py',
]

model = dict(type='mmsskd.StagewiseDistiller', _scope_='mmpretrain')

# four stages, 20 epochs each, no labels; then the head alone: 20 epochs, from ground truth
default_hooks = dict(
    stage_schedule=dict(
        type='mmsskd.StageScheduleHook',
        transfer=dict(epochs=20),
        head=dict(
            epochs=20,
            param_scheduler=[dict(type='CosineAnnealingLR', by_epoch=True, convert_to_iter_based=True)],
        ),
    )
)
