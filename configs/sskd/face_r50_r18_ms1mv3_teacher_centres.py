# Stage by stage on MS1MV3, the classifier starts from the teacher's class centres. 20 epochs in all.
_base_ = './face_r50_r18_ms1mv3.py'

# the default schedule written out: a stage joins those before it
_stages = ['layer1', 'layer2', 'layer3', 'layer4', 'neck']
default_hooks = dict(
    stage_schedule=dict(
        phases=[
            dict(name='layer1', train=_stages[:1]),
            dict(name='layer2', train=_stages[:2]),
            dict(name='layer3', train=_stages[:3]),
            dict(name='layer4', train=_stages[:4]),
            dict(name='neck', train=_stages),
            dict(train='head', head_from_teacher=True),
        ]
    )
)
