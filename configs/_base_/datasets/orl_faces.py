# The ORL faces (AT&T Laboratories Cambridge): people 1 to 20 to train on, and an IJB-A-shaped set of the other 20 to test on.
# python tools/face/make_orl_faces.py --train-people 20; python tools/face/make_ijba_shaped.py data/orl_faces/test data/orl_ijba
# `_scope_`: types are mmpretrain's also where this is inherited as `mmsskd::...`, which would make them ours
data_preprocessor = dict(num_classes=20, mean=[127.5, 127.5, 127.5], std=[127.5, 127.5, 127.5], to_rgb=True)
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='mmpretrain.CenterCrop', crop_size=92),  # the pictures are 92 wide and 112 high
    dict(type='mmpretrain.RandomResizedCrop', scale=64, crop_ratio_range=(0.7, 1.0), aspect_ratio_range=(0.9, 1.1)),
    dict(type='mmpretrain.RandomFlip', prob=0.5, direction='horizontal'),
    dict(type='mmpretrain.ColorJitter', brightness=0.2, contrast=0.2),
    dict(type='mmpretrain.PackInputs'),
]
# 0.82 of a box's longer side, 112, is 92 too
test_pipeline = [dict(type='mmsskd.AlignFace', size=64, box_scale=0.82), dict(type='mmpretrain.PackInputs')]
train_dataloader = dict(
    batch_size=32,
    num_workers=0,
    drop_last=True,
    dataset=dict(type='CustomDataset', _scope_='mmpretrain', data_root='data/orl_faces/train', pipeline=train_pipeline),
    sampler=dict(type='DefaultSampler', shuffle=True),
)
val_dataloader = dict(
    batch_size=50,
    num_workers=0,
    dataset=dict(
        type='mmsskd.FaceEvaluation',
        _scope_='mmpretrain',
        sets=dict(orl=dict(reader='ijba', root='data/orl_ijba')),
        pipeline=test_pipeline,
        size=64,
    ),
    sampler=dict(type='DefaultSampler', shuffle=False),
)
val_evaluator = dict(type='mmsskd.FaceMetric')
test_dataloader = val_dataloader
test_evaluator = val_evaluator
