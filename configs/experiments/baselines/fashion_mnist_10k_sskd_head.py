# The backbone stage by stage from the teacher's first blocks, without labels; then the head alone, which starts as the teacher's
# like all else of the same shape, from labels (of which there may be few: the run that inherits names them in
# head.train_dataloader).
_base_ = '../../_base_/fashion_mnist_10k_r20_r14.py'

model = dict(init_from_teacher='all')
default_hooks = dict(
    stage_schedule=dict(
        phases=[
            dict(train='layer1', epochs=1),
            dict(train=['layer1', 'layer2'], mimic='layer2', epochs=1),
            dict(train='stages', mimic='layer3', epochs=2),
            dict(train='head', epochs=1),
        ]
    )
)
