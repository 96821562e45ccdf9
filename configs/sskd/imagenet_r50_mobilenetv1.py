# Stage by stage on ImageNet-1k: ResNet-50 teaches MobileNetV1. 100 epochs in all, as many as plain training takes, and no label.
_base_ = '../_base_/imagenet_pair.py'

model = dict(
    teacher=dict(cfg_path='mmpretrain::resnet/resnet50_8xb32_in1k.py'),
    teacher_checkpoint='https://mmassets.onedl.ai/mmclassification/v0/resnet/resnet50_8xb32_in1k_20210831-ea4938fc.pth',
    student=dict(cfg_path='mmsskd::plain/imagenet_mobilenetv1.py'),
    projector=dict(reduction=8),  # with 2 it would be three times as large as the student
)

default_hooks = dict(
    stage_schedule=dict(
        phases=[
            dict(train='model.3', epochs=4),
            dict(train=['model.3', 'model.5'], mimic='model.5', epochs=4),
            dict(train=['model.3', 'model.5', 'model.11'], mimic='model.11', epochs=4),
            dict(
                train='stages',
                mimic='model.13',
                epochs=88,
                optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1, momentum=0.9, weight_decay=1e-4)),
                param_scheduler=[dict(type='MultiStepLR', by_epoch=True, milestones=[26, 53, 79], gamma=0.1)],
            ),
        ]
    )
)
