# What pairs on CIFAR-100 share; a pair adds teacher and student. 240 epochs in all, as many as plain training takes, and no label.
# Students this small cannot copy the teacher's last feature, so the last stage follows it through a projector that stays in the
# student, with the teacher's head after it (SimKD, https://arxiv.org/abs/2203.14001), and with 0.1 of the divergence of the
# logits at T = 4. docs/results.md has a prototype of its parts; what follows to the end without a projector lost to plain training.
_base_ = [
    './datasets/cifar100.py',
    './schedules/cifar100_240e.py',
    './default_runtime.py',
]

model = dict(
    type='mmsskd.StagewiseDistiller',
    _scope_='mmpretrain',
    input_shape=(3, 32, 32),
    projector=dict(type='mmsskd.BottleneckProjector', reduction=2),
    init_from_teacher='head',
    mimic_loss=dict(type='mmsskd.FeatureMimicLoss', normalize='none'),
    logits=dict(module='head.fc', loss=dict(type='mmsskd.LogitsKDLoss', temperature=4.0, loss_weight=0.1)),
)

# a twelfth of the epochs for each of the first stages, by Adam; then the last stage, in the field's schedule at its length
default_hooks = dict(
    stage_schedule=dict(
        type='mmsskd.StageScheduleHook',
        phases=[
            dict(train='layer1', epochs=20),
            dict(train=['layer1', 'layer2'], mimic='layer2', epochs=20),
            dict(
                train='stages',
                mimic='layer3',
                logits=True,
                task_loss=False,
                epochs=200,
                optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.05, momentum=0.9, weight_decay=5e-4)),
                param_scheduler=[dict(type='MultiStepLR', by_epoch=True, milestones=[125, 150, 175], gamma=0.1)],
            ),
        ],
    )
)
