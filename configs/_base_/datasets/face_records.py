# What training sets of aligned 112x112 faces in InsightFace's RecordIO share; a set adds its folder and its number of people.
# `_scope_`: types are mmpretrain's also where this is inherited as `mmsskd::...`, which would make them ours
_base_ = './face_pairs.py'

data_preprocessor = dict(mean=[127.5, 127.5, 127.5], std=[127.5, 127.5, 127.5], to_rgb=True)
train_pipeline = [
    dict(type='mmpretrain.RandomFlip', prob=0.5, direction='horizontal'),
    dict(type='mmpretrain.PackInputs'),
]
test_pipeline = [dict(type='mmsskd.AlignFace', size=112), dict(type='mmpretrain.PackInputs')]
train_dataloader = dict(
    batch_size=128,
    num_workers=4,
    persistent_workers=True,
    drop_last=True,
    dataset=dict(type='mmsskd.FaceRecordDataset', _scope_='mmpretrain', pipeline=train_pipeline),
    sampler=dict(type='DefaultSampler', shuffle=True),
)
val_dataloader = dict(
    batch_size=128,
    num_workers=4,
    dataset=dict(type='mmsskd.FaceEvaluation', _scope_='mmpretrain', sets={{_base_.pair_sets}}, pipeline=test_pipeline),
    sampler=dict(type='DefaultSampler', shuffle=False),
)
val_evaluator = dict(type='mmsskd.FaceMetric')
test_dataloader = val_dataloader
test_evaluator = val_evaluator
