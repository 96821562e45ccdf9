# All stages at once by their mimic losses, then the head from labels.
_base_ = '../_base_/fashion_mnist_10k_r20_r8.py'

default_hooks = dict(
    stage_schedule=dict(
        phases=[dict(train='stages', epochs=18), dict(train='head', head_from_teacher=True, epochs=2)],
        head=dict(optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.02, momentum=0.9, weight_decay=5e-4))),
    )
)
