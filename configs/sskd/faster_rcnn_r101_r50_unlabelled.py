# Stage by stage on COCO: the stages learn from photos without annotations, only the head from labeled ones.
# Backbone and FPN on COCO's unlabeled2017 (123,403 photos; any folder of images does), the heads on train2017; 12 epochs in all.
_base_ = './faster_rcnn_r101_r50.py'

photos = dict(
    type='mmsskd.UnlabelledImages',
    data_root='data/coco/unlabeled2017',
    corrupt='skip',  # or 'stop'; either names the file
    pipeline={{_base_.train_pipeline}},
)
default_hooks = dict(
    stage_schedule=dict(
        transfer=dict(
            train_dataloader=dict(
                batch_size=2,
                num_workers=2,
                persistent_workers=True,
                sampler=dict(type='DefaultSampler', shuffle=True),
                batch_sampler=dict(type='AspectRatioBatchSampler', _scope_='mmdet'),
                dataset=photos,
            )
        )
    )
)
