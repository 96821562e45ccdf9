# Stage by stage on a folder of photos without labels: DINOv2's ViT-S/14 of timm teaches the backbone of a RetinaNet.
# 200 iterations of all stages. The photos are in data/photos, the weights those that timm brings; docs/pairs.md has random ones.
_base_ = './dinov2_r18.py'

default_scope = 'mmdet'

train_dataloader = dict(
    batch_size=2,
    dataset=dict(
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='Resize', scale=(448, 320), keep_ratio=True),
            dict(type='RandomFlip', prob=0.5),
            dict(type='PackDetInputs'),
        ],
    ),
)
model = dict(
    _scope_='mmdet',
    student=dict(
        cfg_path='mmdet::retinanet/retinanet_r18_fpn_1x_coco.py',
        backbone=dict(frozen_stages=-1, norm_eval=False),  # the whole of it learns
    ),
)
data_preprocessor = None  # its own
default_hooks = dict(visualization=dict(_delete_=True, type='DetVisualizationHook'))
visualizer = dict(_delete_=True, type='DetLocalVisualizer')
