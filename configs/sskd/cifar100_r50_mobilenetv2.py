# Stage by stage on CIFAR-100: ResNet-50 teaches MobileNetV2. 240 epochs in all, as many as plain training takes, and no label.
_base_ = '../_base_/cifar100_pair.py'

model = dict(
    teacher=dict(cfg_path='mmpretrain::resnet/resnet50_8xb16_cifar100.py'),
    teacher_checkpoint='https://mmassets.onedl.ai/mmclassification/v0/resnet/resnet50_b16x8_cifar100_20210528-67b58a1b.pth',
    student=dict(cfg_path='mmsskd::plain/cifar100_mobilenetv2.py'),
    projector=dict(reduction=8),  # with 2 it would be five times as large as the student
    resize=True,  # the teacher's maps are four times as wide: they are pooled onto the student's
)

default_hooks = dict(
    stage_schedule=dict(
        phases=[
            dict(train='layer2', epochs=16),
            dict(train=['layer2', 'layer3'], mimic='layer3', epochs=16),
            dict(train=['layer2', 'layer3', 'layer5'], mimic='layer5', epochs=16),
            dict(
                train='stages',
                mimic='layer7',
                logits=True,
                task_loss=False,
                epochs=192,
                optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.01, momentum=0.9, weight_decay=5e-4)),
                param_scheduler=[dict(type='MultiStepLR', by_epoch=True, milestones=[120, 144, 168], gamma=0.1)],
            ),
        ]
    )
)
