# Fashion-MNIST with its first 10,000 images for training, the last 5,000 of the training set for choosing settings, and its test
# set. The idx files, packed or not: Debian's package dataset-fashion-mnist puts them where this looks; FASHION_MNIST=... names
# another folder.
data_preprocessor = dict(num_classes=10, mean=[72.94], std=[90.02])
train_pipeline = [
    dict(type='mmpretrain.RandomCrop', crop_size=28, padding=2),
    dict(type='mmpretrain.RandomFlip', prob=0.5, direction='horizontal'),
    dict(type='mmpretrain.PackInputs'),
]
test_pipeline = [dict(type='mmpretrain.PackInputs')]
data = dict(
    type='mmsskd.IdxImages',
    _scope_='mmpretrain',
    data_root='{{$FASHION_MNIST:/usr/share/datasets/fashion-mnist}}',
    metainfo=dict(
        classes=['T-shirt', 'trouser', 'pullover', 'dress', 'coat', 'sandal', 'shirt', 'sneaker', 'bag', 'ankle boot']
    ),
)
files = dict(images='train-images-idx3-ubyte', labels='train-labels-idx1-ubyte')
train_dataloader = dict(
    batch_size=32,
    num_workers=0,
    dataset=dict(**data, **files, indices=10000, pipeline=train_pipeline),
    sampler=dict(type='DefaultSampler', shuffle=True),
)
val_dataloader = dict(
    batch_size=500,
    num_workers=0,
    dataset=dict(**data, **files, indices=-5000, pipeline=test_pipeline, test_mode=True),
    sampler=dict(type='DefaultSampler', shuffle=False),
)
test_dataloader = dict(
    batch_size=500,
    num_workers=0,
    dataset=dict(
        **data,
        images='t10k-images-idx3-ubyte',
        labels='t10k-labels-idx1-ubyte',
        pipeline=test_pipeline,
        test_mode=True,
    ),
    sampler=dict(type='DefaultSampler', shuffle=False),
)
val_evaluator = dict(type='Accuracy', _scope_='mmpretrain', topk=(1,))
# accuracy of each class is its recall
test_evaluator = [
    dict(type='Accuracy', _scope_='mmpretrain', topk=(1,)),
    dict(type='SingleLabelMetric', _scope_='mmpretrain', items=('recall',), average=None),
]
