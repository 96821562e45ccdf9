# Plain training of a student that starts from the teacher's first blocks.
_base_ = '../../_base_/fashion_mnist_10k_r20_r14.py'

model = dict(init_from_teacher='all')
default_hooks = dict(stage_schedule=dict(phases=[dict(train='all', epochs=5)]))
