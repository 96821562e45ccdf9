# Optimizer, schedule, loss and projector of the last stage, each chosen among four on the last 5,000 training images, which the
# students are not trained on; the test images give the last number only. The teacher has seen all training images, so its
# features are better on those 5,000 than on the test images, for all choices alike.
_base_ = './cifar100_r32x4_r8x4.py'

title = 'CIFAR-100: ResNet-32x4 to ResNet-8x4, 60 epochs: optimizer, loss and reduction, chosen on training images'
epochs = 60
search_seed = 0  # no teacher more than those of the seeds
_split = {
    'train_dataloader.dataset.indices': 45000,
    'val_dataloader.dataset.files': 'train',
    'val_dataloader.dataset.indices': -5000,
}
_pair = '../../sskd/cifar100_r32x4_r8x4.py'
_last = _base_._recipes['SimKD and logits']['options']
_hook = 'default_hooks.stage_schedule'
_cosine = [dict(type='CosineAnnealingLR', by_epoch=True, convert_to_iter_based=True)]


def _trained(optimizer, **changes):
    (phase,) = _last[f'{_hook}.phases']
    return {f'{_hook}.phases': [dict(phase, optim_wrapper=dict(optimizer=optimizer), **changes)]}


_sgd = dict(type='SGD', lr=0.05, momentum=0.9, weight_decay=5e-4)
_followed = [
    {'model.projector': dict(type='mmsskd.BottleneckProjector', reduction=reduction)} for reduction in (2, 4, 8)
]
arms = dict(
    _delete_=True,
    **{
        'plain': dict(
            config='../../plain/cifar100_r8x4.py',
            options={**_base_._captured, **_split},
            tries=[{'optim_wrapper.optimizer.lr': lr} for lr in (0.2, 0.1, 0.05, 0.025)],
        ),
        'optimizer and schedule': dict(
            config=_pair,
            options={**_last, **_split},
            tries=[
                _trained(_sgd),
                _trained(_sgd, param_scheduler=_cosine),
                _trained(dict(type='Adam', lr=0.002), param_scheduler=_cosine),
                _trained(dict(type='AdamW', lr=0.002, weight_decay=0.01), param_scheduler=_cosine),
            ],
        ),
        'loss and reduction': dict(
            config=_pair,
            options={**_last, **_split},
            tries=[*_followed, {'model.mimic_loss': dict(type='mmsskd.FeatureMimicLoss')}],
        ),
    },
)
