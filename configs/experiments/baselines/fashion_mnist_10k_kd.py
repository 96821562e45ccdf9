# Hinton KD (https://arxiv.org/abs/1503.02531): the logits of the teacher at temperature 4, weights 0.9 and 0.1, as in the
# scripts of https://github.com/HobbitLong/RepDistiller.
_base_ = '../../_base_/fashion_mnist_10k_r20_r14.py'

default_hooks = dict(
    stage_schedule=dict(phases=[dict(train='all', logits=True, task_weight=0.1, epochs=5)]),
)
