# SSKD to the letter (https://arxiv.org/abs/1812.01819): one stage after another, those before it frozen; then the head from
# labels.
_base_ = '../../_base_/fashion_mnist_10k_r20_r14.py'

default_hooks = dict(
    stage_schedule=dict(
        phases=[
            dict(train='layer1', epochs=1),
            dict(train='layer2', epochs=1),
            dict(train='layer3', epochs=2),
            dict(train='head', epochs=1),
        ]
    )
)
