# All stages jointly, beside the task loss: what most frameworks for distillation do with features.
_base_ = '../../_base_/fashion_mnist_10k_r20_r14.py'

default_hooks = dict(stage_schedule=dict(phases=[dict(train='all', mimic='stages', task_loss=True, epochs=5)]))
