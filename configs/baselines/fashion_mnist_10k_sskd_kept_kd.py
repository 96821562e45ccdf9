# Stage by stage, earlier stages kept in training; then everything from labels and the teacher's logits.
_base_ = '../_base_/fashion_mnist_10k_r20_r14.py'

default_hooks = dict(
    stage_schedule=dict(
        phases=[
            dict(train='layer1', epochs=1),
            dict(train=['layer1', 'layer2'], mimic='layer2', epochs=1),
            dict(train='stages', mimic='layer3', epochs=1),
            dict(train='all', logits=True, task_weight=0.1, epochs=2),
        ]
    )
)
optim_wrapper = dict(optimizer=dict(lr=0.05))
