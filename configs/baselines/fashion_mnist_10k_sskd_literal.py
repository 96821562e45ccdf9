# SSKD to the letter (https://arxiv.org/abs/1812.01819): one stage after another, those before frozen; then the head from labels.
_base_ = '../_base_/fashion_mnist_10k_r20_r8.py'

default_hooks = dict(stage_schedule=dict(transfer=dict(epochs=6), head=dict(epochs=2)))
