# A projector that stays in the student, with the teacher’s head after it, on both pairs of Fashion-MNIST with 2,000 images: that
# of fashion_mnist_10k.py, whose widths are the same, and that of fashion_mnist_10k_adapters.py, whose student is half as wide.
# The rates of Adam, and of KD on the second pair, are the best of three on the validation split (seed 0); others were not searched.
title = 'Fashion-MNIST, 2,000 images: a projector that stays in the student, with the head of the teacher'
metric = 'accuracy/top1'
per_class = 'single-label/recall_classwise'
teacher = '../../plain/fashion_mnist_10k_r20x05.py'

_set = 'train_dataloader.dataset'
options = {
    f'{_set}.type': 'mmsskd.ResidentImages',
    f'{_set}.of': 'mmsskd.IdxImages',
    f'{_set}.indices': 2000,
    'val_dataloader.dataset.indices': -1000,
}
_pair = '../../_base_/fashion_mnist_10k_r20_r14.py'
_hook = 'default_hooks.stage_schedule'
_cosine = [dict(type='CosineAnnealingLR', by_epoch=True, convert_to_iter_based=True)]
_projector = {'model.projector': dict(type='mmsskd.BottleneckProjector', reduction=2)}
_head = {'model.init_from_teacher': 'head'}
_kept = {**_projector, **_head}  # the projector stays, and the head is the teacher's
_logits = {  # 0.1 of the divergence at T = 4 beside the raw features, as in _base_/cifar100_pair.py
    'model.logits': dict(
        _delete_=True, module='head.fc', loss=dict(type='mmsskd.LogitsKDLoss', temperature=4.0, loss_weight=0.1)
    ),
    'model.mimic_loss': dict(type='mmsskd.FeatureMimicLoss', normalize='none'),
}


def _rate(lr):
    return {'optim_wrapper.optimizer.lr': lr}


def _adam(lr):
    return {f'{_hook}.transfer': dict(optim_wrapper=dict(optimizer=dict(type='Adam', lr=lr)))}


def _arm(*phases, **options):
    return dict(config=_pair, options={f'{_hook}.phases': list(phases), **options})


def _stages(epochs, **phase):
    """Stage by stage, most epochs for the last, as the recommended recipe has it."""
    return [
        dict(train='layer1', epochs=1),
        dict(train=['layer1', 'layer2'], mimic='layer2', epochs=1),
        dict(train='stages', mimic='layer3', epochs=epochs, **phase),
    ]


_last = dict(train='stages', mimic='layer3', epochs=5)
_default = [
    dict(train='layer1', epochs=1),
    dict(train=['layer1', 'layer2'], epochs=1),
    dict(train='stages', epochs=2),
    dict(train='head', epochs=1),
]


def _arms(kd_rate):
    """Of both pairs."""
    labels = dict(train='all', epochs=2)
    kd = dict(
        train='all',
        logits=True,
        task_loss=False,
        epochs=5,
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=kd_rate, momentum=0.9, weight_decay=5e-4)),
        param_scheduler=_cosine,
    )
    return {
        'Hinton KD, no labels': _arm(kd),
        'default, then the head from labels': _arm(*_default, **_adam(0.02)),
        'stages and projector, no labels': _arm(*_stages(3), **_adam(0.02), **_kept),
        'last stage alone and projector, no labels': _arm(_last, **_adam(0.02), **_kept),
        'stages and projector, then labels': _arm(*_stages(1), labels, **_adam(0.02), **_rate(0.05), **_kept),
    }


# As it was measured: gray images in memory then made a network run in channels-last order, in which torch 2.12.1 on a CPU dies in
# the backward of 1x1 convolutions of stride 2 with fewer than 8 channels.
_half = {
    _set: dict(
        _delete_=True,
        type='mmsskd.IdxImages',
        data_root='{{$FASHION_MNIST:/usr/share/datasets/fashion-mnist}}',
        images='train-images-idx3-ubyte',
        labels='train-labels-idx1-ubyte',
        indices=2000,
        pipeline=[
            dict(type='mmpretrain.RandomCrop', crop_size=28, padding=2),
            dict(type='mmpretrain.RandomFlip', prob=0.5, direction='horizontal'),
            dict(type='mmpretrain.PackInputs'),
        ],
    )
}
_narrow = {
    **_half,
    'model.student.backbone': dict(width=0.25, stem_channels=4),
    'model.student.head': dict(in_channels=16),
}
_plain = '../../plain/fashion_mnist_10k_r14x05.py'
arms = {
    'plain student': dict(config=_plain),
    'recommended, no labels': dict(config='../../sskd/fashion_mnist_10k_r20_r14.py', options=_adam(0.02)),
    'stages with the head of the teacher, no projector, no labels': _arm(*_stages(3), **_adam(0.02), **_head),
    **_arms(0.1),
    'stages, projector and logits, no labels': _arm(
        *_stages(3, logits=True, task_loss=False), **_adam(0.02), **_kept, **_logits
    ),
    'half width, plain student': dict(
        config=_plain,
        options={
            **_half,
            'model.backbone.width': 0.25,
            'model.backbone.stem_channels': 4,
            'model.head.in_channels': 16,
        },
        plain='half width, plain student',
    ),
    **{
        f'half width, {name}': dict(
            config=arm['config'], options={**_narrow, **arm['options']}, plain='half width, plain student'
        )
        for name, arm in _arms(0.05).items()
    },
}
plain = 'plain student'
epochs = 5
seeds = [0, 1, 2]
val_interval = 5
