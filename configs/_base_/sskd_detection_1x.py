# Stage by stage at the length of mmdet's 1x, 12 epochs: one for each of four stages and the neck, seven for the head.
_base_ = ['mmdet::_base_/schedules/schedule_1x.py', './detection_runtime.py']

default_hooks = dict(
    stage_schedule=dict(
        type='mmsskd.StageScheduleHook',
        # a tenth of the default rate: the student starts from ImageNet weights
        transfer=dict(epochs=1, optim_wrapper=dict(optimizer=dict(type='Adam', lr=0.001))),
        head=dict(
            epochs=7,
            param_scheduler=[
                dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=500),
                dict(type='CosineAnnealingLR', by_epoch=True, convert_to_iter_based=True),
            ],
        ),
    )
)
