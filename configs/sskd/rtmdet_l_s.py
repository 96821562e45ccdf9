# Stage by stage on COCO: RTMDet-l teaches RTMDet-s, through adapters in backbone and neck (CSPNeXt, PAFPN).
# 300 epochs in all, as mmdet's RTMDet: 40 for each of four stages and the neck, 100 for the head.
_base_ = ['mmdet::rtmdet/rtmdet_s_8xb32-300e_coco.py']

model = dict(
    _delete_=True,
    type='mmsskd.StagewiseDistiller',
    _scope_='mmdet',
    teacher=dict(cfg_path='mmdet::rtmdet/rtmdet_l_8xb32-300e_coco.py'),
    teacher_checkpoint=(
        'https://download.openmmlab.com/mmdetection/v3.0/rtmdet/'
        'rtmdet_l_8xb32-300e_coco/rtmdet_l_8xb32-300e_coco_20220719_112030-5a0be7c4.pth'
    ),
    student=dict(cfg_path='mmdet::rtmdet/rtmdet_s_8xb32-300e_coco.py'),
    stages=['stage1', 'stage2', 'stage3', 'stage4', 'neck'],
)

default_hooks = dict(
    stage_schedule=dict(
        type='mmsskd.StageScheduleHook',
        transfer=dict(epochs=40, optim_wrapper=dict(optimizer=dict(type='Adam', lr=0.001))),
        head=dict(
            epochs=100,
            param_scheduler=[
                dict(type='LinearLR', start_factor=1e-5, by_epoch=False, begin=0, end=1000),
                dict(type='CosineAnnealingLR', eta_min=2e-4, by_epoch=True, convert_to_iter_based=True),
            ],
        ),
    )
)
custom_hooks = [
    dict(
        type='EMAHook',
        ema_type='ExpMomentumEMA',
        momentum=0.0002,
        update_buffers=True,
        priority=49,
        begin_epoch=201,  # an average over the head's epochs only
    ),
    dict(
        type='PipelineSwitchHook', switch_epoch=280, switch_pipeline={{_base_.train_pipeline_stage2}}, _scope_='mmdet'
    ),
]
randomness = dict(seed=0)
