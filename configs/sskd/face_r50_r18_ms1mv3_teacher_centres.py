# Stage by stage on MS1MV3, the classifier starts from the teacher's class centres. 20 epochs in all.
_base_ = './face_r50_r18_ms1mv3.py'

default_hooks = dict(
    stage_schedule=dict(
        phases=[
            dict(train='layer1'),
            dict(train='layer2'),
            dict(train='layer3'),
            dict(train='layer4'),
            dict(train='neck'),
            dict(train='head', head_from_teacher=True),
        ]
    )
)
