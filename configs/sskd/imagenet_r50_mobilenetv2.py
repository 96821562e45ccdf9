# Stage by stage on ImageNet-1k: ResNet-50 teaches MobileNetV2. 100 epochs in all, as many as plain training takes.
_base_ = [
    'mmpretrain::_base_/datasets/imagenet_bs32.py',
    'mmpretrain::_base_/schedules/imagenet_bs256.py',
    '../_base_/default_runtime.py',
]

model = dict(
    type='mmsskd.StagewiseDistiller',
    _scope_='mmpretrain',
    teacher=dict(cfg_path='mmpretrain::resnet/resnet50_8xb32_in1k.py'),
    teacher_checkpoint='https://mmassets.onedl.ai/mmclassification/v0/resnet/resnet50_8xb32_in1k_20210831-ea4938fc.pth',
    student=dict(cfg_path='mmpretrain::mobilenet_v2/mobilenet-v2_8xb32_in1k.py'),
)

# layer2, layer3, layer5, layer7: 20 epochs each, no labels; then the head alone: 20 epochs, from ground truth.
cosine = dict(type='CosineAnnealingLR', by_epoch=True, convert_to_iter_based=True)
default_hooks = dict(
    stage_schedule=dict(
        type='mmsskd.StageScheduleHook',
        transfer=dict(epochs=20),
        head=dict(epochs=20, param_scheduler=[cosine]),
    )
)
