# All stages at once, each behind the teacher's stage before it; then all of them behind the student's own, by the last
# stage alone. The head is the teacher's.
_base_ = '../_base_/fashion_mnist_10k_r20_r14.py'

default_hooks = dict(
    stage_schedule=dict(
        phases=[
            dict(name='all_at_once', train='stages', prefix='teacher', epochs=2),
            dict(train='stages', mimic='layer3', head_from_teacher=True, epochs=3),
        ]
    )
)
