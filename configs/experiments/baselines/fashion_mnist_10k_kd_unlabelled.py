# KD where few labels are known: the teacher's logits on all images, without labels; then labels and logits on the labeled ones
# (the run that inherits names them in head.train_dataloader).
_base_ = '../../_base_/fashion_mnist_10k_r20_r14.py'

default_hooks = dict(
    stage_schedule=dict(
        phases=[
            dict(name='logits', train='all', logits=True, task_loss=False, epochs=4),
            dict(train='all', logits=True, task_weight=0.1, epochs=1),
        ],
        transfer=dict(
            optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1, momentum=0.9, weight_decay=5e-4)),
            param_scheduler=[dict(type='CosineAnnealingLR', by_epoch=True, convert_to_iter_based=True)],
        ),
    )
)
optim_wrapper = dict(optimizer=dict(lr=0.01))
