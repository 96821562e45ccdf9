# Stage by stage, earlier stages kept in training; then a short fine-tuning of everything, the head from the teacher's.
_base_ = '../_base_/fashion_mnist_10k_r20_r14.py'

default_hooks = dict(
    stage_schedule=dict(
        phases=[
            dict(train='layer1', epochs=1),
            dict(train=['layer1', 'layer2'], mimic='layer2', epochs=1),
            dict(train='stages', mimic='layer3', epochs=2),
            dict(train='all', head_from_teacher=True, epochs=1),
        ]
    )
)
optim_wrapper = dict(optimizer=dict(lr=0.02))
