# Stage by stage on CIFAR-100, the last stage alone and without one label: ResNet-32x4 teaches ResNet-8x4 through a projector that
# stays in the student, with the head of the teacher behind it. 240 epochs in the schedule of the field, plain L2 as in SimKD
# (https://arxiv.org/abs/2203.14001), and beside it 0.1 of the divergence of the logits at T = 4.
# The teacher first: python tools/train.py configs/plain/cifar100_r32x4.py
_base_ = './cifar100_r32x4_r8x4.py'

model = dict(
    projector=dict(type='mmsskd.BottleneckProjector', reduction=2),
    init_from_teacher='head',
    mimic_loss=dict(type='mmsskd.FeatureMimicLoss', normalize='none'),
    logits=dict(module='head.fc', loss=dict(type='mmsskd.LogitsKDLoss', temperature=4.0, loss_weight=0.1)),
)
default_hooks = dict(
    stage_schedule=dict(
        phases=[
            dict(
                train='stages',
                mimic='layer3',
                logits=True,
                task_loss=False,
                epochs=240,
                optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.05, momentum=0.9, weight_decay=5e-4)),
                param_scheduler=[dict(type='MultiStepLR', by_epoch=True, milestones=[150, 180, 210], gamma=0.1)],
            )
        ]
    )
)
