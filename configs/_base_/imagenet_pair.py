# What pairs on ImageNet-1k share; a pair adds teacher and student. 100 epochs in all, as many as plain training, and no label:
# as on CIFAR-100 (./cifar100_pair.py), but for the logits. Not trained by us; https://arxiv.org/abs/2203.14001 has 71.59 for
# ResNet-34 to ResNet-18 and 72.25 for ResNet-50 to MobileNetV1 with the last stage alone, in 120 epochs.
_base_ = [
    'mmpretrain::_base_/datasets/imagenet_bs32.py',
    'mmpretrain::_base_/schedules/imagenet_bs256.py',
    './default_runtime.py',
]

model = dict(
    type='mmsskd.StagewiseDistiller',
    _scope_='mmpretrain',
    projector=dict(type='mmsskd.BottleneckProjector', reduction=2),
    init_from_teacher='head',
    mimic_loss=dict(type='mmsskd.FeatureMimicLoss', normalize='none'),
)

# four epochs for each of the first three stages, by Adam; then the last one, in the plain student's schedule at its length
default_hooks = dict(
    stage_schedule=dict(
        type='mmsskd.StageScheduleHook',
        phases=[
            dict(train='layer1', epochs=4),
            dict(train=['layer1', 'layer2'], mimic='layer2', epochs=4),
            dict(train=['layer1', 'layer2', 'layer3'], mimic='layer3', epochs=4),
            dict(
                train='stages',
                mimic='layer4',
                epochs=88,
                optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1, momentum=0.9, weight_decay=1e-4)),
                param_scheduler=[dict(type='MultiStepLR', by_epoch=True, milestones=[26, 53, 79], gamma=0.1)],
            ),
        ],
    )
)
