# Stage by stage on digits on photos with few labels: backbone and FPN learn from all 800 images, without boxes; then everything
# learns from the 80 images that have them. As many iterations as 6 epochs of plain training: 1 and 3 epochs, then 20 short ones.
# The teacher first, as for digits_on_photos_r34_r18_w16.py
_base_ = './digits_on_photos_r34_r18_w16.py'

default_hooks = dict(
    checkpoint=dict(interval=4),
    stage_schedule=dict(
        phases=[
            dict(train='stages', epochs=1),
            dict(name='fpn', train='stages', mimic='neck', epochs=3),
            dict(train='all', mimic='neck', task_loss=True, epochs=20),
        ],
        head=dict(
            train_dataloader=dict(
                batch_size=8,
                num_workers=0,
                sampler=dict(type='DefaultSampler', shuffle=True),
                dataset=dict(
                    type='CocoDataset',
                    _scope_='mmdet',
                    data_root={{_base_.data_root}},
                    ann_file='annotations/train.json',
                    data_prefix=dict(img='train/'),
                    metainfo={{_base_.metainfo}},
                    indices=80,
                    pipeline={{_base_.train_pipeline}},
                ),
            )
        ),
    ),
)
train_cfg = dict(max_epochs=24, val_interval=4)
