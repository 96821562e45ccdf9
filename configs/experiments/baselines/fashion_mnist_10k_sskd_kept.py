# Stage by stage, earlier stages kept in training; the head is the teacher's, so that no label is used.
_base_ = '../../_base_/fashion_mnist_10k_r20_r14.py'

model = dict(init_from_teacher='head')
default_hooks = dict(
    stage_schedule=dict(
        phases=[
            dict(train='layer1', epochs=1),
            dict(train=['layer1', 'layer2'], mimic='layer2', epochs=1),
            dict(train='stages', mimic='layer3', epochs=3),
        ]
    )
)
