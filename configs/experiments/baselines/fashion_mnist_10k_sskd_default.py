# The default schedule written out: earlier stages and their losses are kept, then the head alone learns from labels (of which there
# may be few: the run that inherits names them in head.train_dataloader).
_base_ = '../../_base_/fashion_mnist_10k_r20_r14.py'

default_hooks = dict(
    stage_schedule=dict(
        phases=[
            dict(train='layer1', epochs=1),
            dict(train=['layer1', 'layer2'], epochs=1),
            dict(train='stages', epochs=2),
            dict(train='head', epochs=1),
        ]
    )
)
