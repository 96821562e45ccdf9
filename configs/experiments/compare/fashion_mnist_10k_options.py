# What each option of the recommended recipe is worth: that of ../../sskd/fashion_mnist_10k_r20_r14.py with one thing changed.
title = 'Fashion-MNIST, 10,000 images: one change of the recommended recipe at a time'
metric = 'accuracy/top1'
per_class = 'single-label/recall_classwise'
teacher = '../../plain/fashion_mnist_10k_r20x05.py'

_hook = 'default_hooks.stage_schedule'


_phases = [
    dict(train='layer1', epochs=1),
    dict(train=['layer1', 'layer2'], mimic='layer2', epochs=1),
    dict(train='stages', mimic='layer3', epochs=3),
]
_loader = dict(
    batch_size=32,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        type='mmsskd.IdxImages',
        data_root='{{$FASHION_MNIST:/usr/share/datasets/fashion-mnist}}',
        images='train-images-idx3-ubyte',
        labels='train-labels-idx1-ubyte',
        indices=list(range(10000, 20000)),
        pipeline=[
            dict(type='mmpretrain.RandomCrop', crop_size=28, padding=2),
            dict(type='mmpretrain.RandomFlip', prob=0.5, direction='horizontal'),
            dict(type='mmpretrain.PackInputs'),
        ],
    ),
)
_changes = {
    'recommended': {},
    'from scratch instead of the teacher’s weights': {'model.init_from_teacher': 'head'},
    'earlier stages frozen': {
        f'{_hook}.phases': [
            dict(train='layer1', epochs=1),
            dict(train='layer2', epochs=1),
            dict(train='layer3', epochs=3),
        ]
    },
    'earlier mimic losses kept': {
        f'{_hook}.phases': [
            dict(train='layer1', epochs=1),
            dict(train=['layer1', 'layer2'], epochs=1),
            dict(train='stages', epochs=3),
        ]
    },
    'more epochs for the first stages: 2 + 2 + 1': {
        f'{_hook}.phases': [dict(phase, epochs=length) for phase, length in zip(_phases, (2, 2, 1))]
    },
    'last stage only': {f'{_hook}.phases': [dict(train='stages', mimic='layer3', epochs=5)]},
    'all stages at once by their own losses': {f'{_hook}.phases': [dict(train='stages', epochs=5)]},
    'raw mean-squared error': {'model.mimic_loss': dict(type='mmsskd.FeatureMimicLoss', normalize='none')},
    'SGD 0.1 instead of Adam 0.02': {
        f'{_hook}.transfer': dict(optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1, momentum=0.9)))
    },
    'batch 128 instead of 32': {'train_dataloader.batch_size': 128},
    'random resized crops of 60 % and more': {
        'train_dataloader.dataset.pipeline': [
            dict(type='mmpretrain.RandomResizedCrop', scale=28, crop_ratio_range=(0.6, 1.0)),
            dict(type='mmpretrain.RandomFlip', prob=0.5, direction='horizontal'),
            dict(type='mmpretrain.PackInputs'),
        ]
    },
    '10,000 other images, which the teacher has not seen': {
        f'{_hook}.transfer': dict(optim_wrapper=dict(optimizer=dict(type='Adam', lr=0.02)), train_dataloader=_loader)
    },
    'one epoch of labels at the end': {
        f'{_hook}.phases': [
            *_phases[:2],
            dict(train='stages', mimic='layer3', epochs=2),
            dict(train='all', epochs=1),
        ],
        'optim_wrapper.optimizer.lr': 0.01,
    },
    'two epochs of labels at the end': {
        f'{_hook}.phases': [
            *_phases[:2],
            dict(train='stages', mimic='layer3', epochs=1),
            dict(train='all', epochs=2),
        ],
        'optim_wrapper.optimizer.lr': 0.01,
    },
    'the head from labels': {
        f'{_hook}.phases': [
            *_phases[:2],
            dict(train='stages', mimic='layer3', epochs=2),
            dict(train='head', epochs=1),
        ]
    },
}
arms = {
    'plain student': dict(config='../../plain/fashion_mnist_10k_r14x05.py'),
    **{
        name: dict(config='../../sskd/fashion_mnist_10k_r20_r14.py', options=options)
        for name, options in _changes.items()
    },
}
plain = 'plain student'
epochs = 5
seeds = [0, 1, 2]
val_interval = 1
