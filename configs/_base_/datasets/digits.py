# scikit-learn's handwritten digits: 1,200 to train, 597 to test, 8x8 pixels, gray. Nothing to download.
# `_scope_`: types are mmpretrain's also where this is inherited as `mmsskd::...`, which would make them ours
data_preprocessor = dict(num_classes=10, mean=[127.5], std=[127.5])
train_pipeline = [
    dict(type='mmpretrain.RandomCrop', crop_size=8, padding=1),
    dict(type='mmpretrain.PackInputs'),
]
test_pipeline = [dict(type='mmpretrain.PackInputs')]
train_dataloader = dict(
    batch_size=64,
    num_workers=0,
    dataset=dict(type='mmsskd.Digits', _scope_='mmpretrain', split='train', pipeline=train_pipeline),
    sampler=dict(type='DefaultSampler', shuffle=True),
)
val_dataloader = dict(
    batch_size=199,
    num_workers=0,
    dataset=dict(type='mmsskd.Digits', _scope_='mmpretrain', split='test', pipeline=test_pipeline),
    sampler=dict(type='DefaultSampler', shuffle=False),
)
val_evaluator = dict(type='Accuracy', _scope_='mmpretrain', topk=(1,))
test_dataloader = val_dataloader
test_evaluator = val_evaluator
