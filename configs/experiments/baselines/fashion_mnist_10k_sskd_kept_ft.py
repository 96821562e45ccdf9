# Stage by stage, earlier stages kept in training; then a short fine-tuning of everything, the head from the teacher's.
_base_ = '../../_base_/fashion_mnist_10k_r20_r14.py'

model = dict(init_from_teacher='head')
default_hooks = dict(
    stage_schedule=dict(
        phases=[
            dict(train='layer1', epochs=1),
            dict(train=['layer1', 'layer2'], mimic='layer2', epochs=1),
            dict(train='stages', mimic='layer3', epochs=2),
            dict(train='all', epochs=1),
        ]
    )
)
optim_wrapper = dict(optimizer=dict(lr=0.02))
