# Fashion-MNIST, 60,000 and 10,000 gray images of 28x28. Downloaded to data/fashion_mnist on first use; where there is no internet
# put the four unpacked idx files there (Debian: package dataset-fashion-mnist).
# `_scope_`: types are mmpretrain's also where this is inherited as `mmsskd::...`, which would make them ours
data_preprocessor = dict(num_classes=10, mean=[72.94], std=[90.02])
train_pipeline = [
    dict(type='mmpretrain.RandomCrop', crop_size=28, padding=2),
    dict(type='mmpretrain.RandomFlip', prob=0.5, direction='horizontal'),
    dict(type='mmpretrain.PackInputs'),
]
test_pipeline = [dict(type='mmpretrain.PackInputs')]
train_dataloader = dict(
    batch_size=128,
    num_workers=2,
    dataset=dict(
        type='FashionMNIST',
        _scope_='mmpretrain',
        data_root='data/fashion_mnist',
        split='train',
        pipeline=train_pipeline,
    ),
    sampler=dict(type='DefaultSampler', shuffle=True),
)
val_dataloader = dict(
    batch_size=500,
    num_workers=2,
    # mmpretrain's class goes by test_mode, not by split
    dataset=dict(
        type='FashionMNIST',
        _scope_='mmpretrain',
        data_root='data/fashion_mnist',
        split='test',
        test_mode=True,
        pipeline=test_pipeline,
    ),
    sampler=dict(type='DefaultSampler', shuffle=False),
)
val_evaluator = dict(type='Accuracy', _scope_='mmpretrain', topk=(1,))
test_dataloader = val_dataloader
test_evaluator = val_evaluator
