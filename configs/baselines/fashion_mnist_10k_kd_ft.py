# Hinton KD, then the last quarter from the labels alone.
_base_ = '../_base_/fashion_mnist_10k_r20_r8.py'

default_hooks = dict(
    stage_schedule=dict(
        phases=[
            dict(train='all', task_loss=True, logits=True, task_weight=0.1, epochs=15),
            dict(
                name='fine_tune',
                train='all',
                epochs=5,
                optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.02, momentum=0.9)),
            ),
        ]
    )
)
