# All stages jointly beside the task loss, then a short fine-tuning from labels alone.
_base_ = '../../_base_/fashion_mnist_10k_r20_r14.py'

default_hooks = dict(
    stage_schedule=dict(
        phases=[
            dict(train='all', mimic='stages', task_loss=True, epochs=4),
            dict(
                name='fine_tuning',
                train='all',
                epochs=1,
                optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.01, momentum=0.9, weight_decay=5e-4)),
            ),
        ]
    )
)
