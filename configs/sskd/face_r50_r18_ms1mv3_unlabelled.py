# Stage by stage on MS1MV3 with unlabeled faces: all stages and the embedding learn from aligned crops in data/faces_unlabelled
# without a name, only the classifier needs people. 20 epochs of their sets in all.
_base_ = './face_r50_r18_ms1mv3.py'

unlabelled = dict(
    batch_size=128,
    num_workers=4,
    persistent_workers=True,
    drop_last=True,
    dataset=dict(
        type='mmsskd.UnlabelledImages',
        _scope_='mmpretrain',
        data_root='data/faces_unlabelled',
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='mmsskd.AlignFace', size=112),
            dict(type='mmpretrain.RandomFlip', prob=0.5, direction='horizontal'),
            dict(type='mmpretrain.PackInputs'),
        ],
    ),
    sampler=dict(type='DefaultSampler', shuffle=True),
)
default_hooks = dict(stage_schedule=dict(transfer=dict(epochs=3, train_dataloader=unlabelled)))
