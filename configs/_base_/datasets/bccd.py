# BCCD, blood cells under the microscope: 364 photos of 640x480 with boxes of three classes, in the split of their source,
# https://github.com/Shenggan/BCCD_Dataset. Its VOC files have to be made into lists in COCO's format, which no tool here does:
# train.json, val.json and test.json, beside the folder images, in data/bccd or the folder that the variable BCCD names.
# `_scope_`: types are mmdet's also where this is inherited as `mmsskd::...`, which would make them ours
data_root = '{{$BCCD:data/bccd}}'
metainfo = dict(classes=('RBC', 'WBC', 'Platelets'))
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='mmdet.LoadAnnotations', with_bbox=True),
    dict(type='mmdet.Resize', scale=(640, 480), keep_ratio=True),
    dict(type='mmdet.RandomFlip', prob=0.75, direction=['horizontal', 'vertical', 'diagonal']),  # cells lie any way up
    dict(type='mmdet.PackDetInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='mmdet.Resize', scale=(640, 480), keep_ratio=True),
    dict(type='mmdet.LoadAnnotations', with_bbox=True),
    dict(type='mmdet.PackDetInputs', meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')),
]
train_dataloader = dict(
    batch_size=8,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        type='CocoDataset',
        _scope_='mmdet',
        data_root=data_root,
        ann_file='train.json',
        data_prefix=dict(img='images/'),
        metainfo=metainfo,
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=8,
    num_workers=2,
    persistent_workers=True,
    drop_last=False,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='CocoDataset',
        _scope_='mmdet',
        data_root=data_root,
        ann_file='val.json',
        data_prefix=dict(img='images/'),
        metainfo=metainfo,
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
test_dataloader = dict(val_dataloader, dataset=dict(val_dataloader['dataset'], ann_file='test.json'))
val_evaluator = dict(type='CocoMetric', _scope_='mmdet', ann_file=data_root + '/val.json', metric='bbox')
test_evaluator = dict(type='CocoMetric', _scope_='mmdet', ann_file=data_root + '/test.json', metric='bbox')
