# ResNet-20 teaches a ResNet-8 of half its widths (4, 8, 16 channels), which has as many epochs as the teacher: a pair whose gap
# stays when plain training has the time it needs, since the student is too small. Two rates for each arm, around those that
# fashion_mnist_10k_adapters.py chose.
title = (
    'Fashion-MNIST, 10,000 images: ResNet-20 to ResNet-8 of half the widths, students with the epochs of the teacher'
)
metric = 'accuracy/top1'
per_class = 'single-label/recall_classwise'
teacher = '../../plain/fashion_mnist_10k_r20x05.py'

_plain = {
    'model.backbone.depth': 8,
    'model.backbone.width': 0.25,
    'model.backbone.stem_channels': 4,
    'model.head.in_channels': 16,
}
_small = {
    'model.student.backbone': dict(depth=8, width=0.25, stem_channels=4),
    'model.student.head': dict(in_channels=16),
}
_phases = 'default_hooks.stage_schedule.phases'
_transfer = 'default_hooks.stage_schedule.transfer'


def _task(*rates):
    return [{'optim_wrapper.optimizer.lr': lr} for lr in rates]


def _adam(lr):
    return {_transfer: dict(optim_wrapper=dict(optimizer=dict(type='Adam', lr=lr)))}


_stages = [_adam(0.04), _adam(0.02)]
_first = [dict(train='layer1', epochs=1), dict(train=['layer1', 'layer2'], epochs=1), dict(train='stages', epochs=2)]
arms = {
    'plain student': dict(config='../../plain/fashion_mnist_10k_r14x05.py', options=_plain, tries=_task(0.1, 0.05)),
    'Hinton KD': dict(config='../baselines/fashion_mnist_10k_kd.py', options=_small, tries=_task(0.1, 0.05)),
    'FitNets': dict(config='../baselines/fashion_mnist_10k_fitnets.py', options=_small, tries=_task(0.01, 0.005)),
    'all stages jointly': dict(config='../baselines/fashion_mnist_10k_joint.py', options=_small, tries=_task(0.2, 0.1)),
    'SSKD, literal': dict(config='../baselines/fashion_mnist_10k_sskd_literal.py', options=_small, tries=_stages),
    'earlier stages and their losses kept, then the head': dict(
        config='../baselines/fashion_mnist_10k_sskd_default.py', options=_small, tries=_stages
    ),
    'the same for a fifth of the epochs, then labels': dict(
        config='../baselines/fashion_mnist_10k_sskd_default.py',
        options={**_small, **_adam(0.04), _phases: [*_first, dict(train='all', epochs=16)]},
        tries=_task(0.1, 0.05),
    ),
    'the same for a fifth of the epochs, then labels and logits': dict(
        config='../baselines/fashion_mnist_10k_sskd_default.py',
        options={
            **_small,
            **_adam(0.04),
            _phases: [*_first, dict(train='all', logits=True, task_weight=0.1, epochs=16)],
        },
        tries=_task(0.1, 0.05),
    ),
}
plain = 'plain student'
epochs = 20
seeds = [0, 1, 2]
val_interval = 5
