# FitNets as in fashion_mnist_10k_fitnets.py, then a short fine-tuning from labels alone. The head stays the student's own, whose
# features are not the teacher's.
_base_ = './fashion_mnist_10k_fitnets.py'

default_hooks = dict(
    stage_schedule=dict(
        phases=[
            dict(train='all', mimic='layer2', task_loss=True, epochs=4),
            dict(
                name='fine_tuning',
                train='all',
                epochs=1,
                optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.01, momentum=0.9, weight_decay=5e-4)),
            ),
        ]
    )
)
