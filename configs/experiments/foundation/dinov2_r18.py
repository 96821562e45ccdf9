# Stage by stage on a folder of photos without labels: DINOv2's ViT-S/14 of timm teaches a ResNet-18, 200 iterations of all stages.
# The photos are in data/photos. The weights are those that timm brings; docs/pairs.md has a run with random ones.
_base_ = 'mmpretrain::_base_/default_runtime.py'

photos = dict(
    type='mmsskd.UnlabelledImages',
    data_root='data/photos',
    pipeline=[
        dict(type='LoadImageFromFile'),
        dict(type='RandomResizedCrop', scale=224),
        dict(type='RandomFlip', prob=0.5, direction='horizontal'),
        dict(type='PackInputs'),
    ],
)
train_dataloader = dict(
    batch_size=8,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=photos,
)
model = dict(
    type='mmsskd.StagewiseDistiller',
    _scope_='mmpretrain',
    # 224 x 0.875 = 196 pixels: a patch of 14 pixels lies on a place of stride 16
    teacher=dict(
        type='mmsskd.ExternalTeacher',
        build='timm:vit_small_patch14_dinov2',
        pretrained=True,
        arguments=dict(dynamic_img_size=True),
        size=0.875,
    ),
    student=dict(cfg_path='mmpretrain::resnet/resnet18_8xb32_in1k.py'),
)
data_preprocessor = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], to_rgb=True)
train_cfg = dict(by_epoch=False, max_iters=200)
optim_wrapper = dict(optimizer=dict(type='Adam', lr=0.001))
default_hooks = dict(
    logger=dict(interval=10),
    checkpoint=dict(by_epoch=False, interval=200),
    stage_schedule=dict(
        type='mmsskd.StageScheduleHook',
        phases=[dict(train='stages', iters=200)],
        transfer=dict(optim_wrapper=dict(optimizer=dict(type='Adam', lr=0.001))),
    ),
)
log_processor = dict(by_epoch=False)
randomness = dict(seed=0)
