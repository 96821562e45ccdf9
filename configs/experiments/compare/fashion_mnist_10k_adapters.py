# ResNet-20 teaches a ResNet-14 of half its widths (4, 8, 16 channels): what mimics needs adapters, and neither the teacher's
# weights nor its head fit. Otherwise as fashion_mnist_10k.py.
title = 'Fashion-MNIST, 10,000 images: ResNet-20 to ResNet-14 of half the widths (adapters)'
metric = 'accuracy/top1'
per_class = 'single-label/recall_classwise'
teacher = '../../plain/fashion_mnist_10k_r20x05.py'

_narrow = {
    'model.student.backbone': dict(width=0.25, stem_channels=4),
    'model.student.head': dict(in_channels=16),
    'model.adapter_norm': False,
}
_task = [{'optim_wrapper.optimizer.lr': lr} for lr in (0.1, 0.05, 0.02, 0.2, 0.01)]
_transfer = [
    {'default_hooks.stage_schedule.transfer': dict(optim_wrapper=dict(optimizer=dict(type='Adam', lr=lr)))}
    for lr in (0.01, 0.005, 0.02, 0.04, 0.08)
]


def _by_stage(*phases, **options):
    return dict(
        config='../../_base_/fashion_mnist_10k_r20_r14.py',
        options={**_narrow, 'default_hooks.stage_schedule.phases': list(phases), **options},
        tries=_transfer,
    )


_first = dict(train='layer1', epochs=1)
_second = dict(train=['layer1', 'layer2'], epochs=1)
_last = dict(train='stages', mimic='layer3', epochs=1)
_task_rate = {'optim_wrapper.optimizer.lr': 0.05}
arms = {
    'plain student': dict(
        config='../../plain/fashion_mnist_10k_r14x05.py',
        options={'model.backbone.width': 0.25, 'model.backbone.stem_channels': 4, 'model.head.in_channels': 16},
        tries=_task,
    ),
    'Hinton KD': dict(config='../baselines/fashion_mnist_10k_kd.py', options=_narrow, tries=_task),
    'FitNets': dict(config='../baselines/fashion_mnist_10k_fitnets.py', options=_narrow, tries=_task),
    'all stages jointly': dict(config='../baselines/fashion_mnist_10k_joint.py', options=_narrow, tries=_task),
    'all stages jointly, BN after the adapters': dict(
        config='../baselines/fashion_mnist_10k_joint.py', options={**_narrow, 'model.adapter_norm': True}, tries=_task
    ),
    'SSKD, literal': dict(config='../baselines/fashion_mnist_10k_sskd_literal.py', options=_narrow, tries=_transfer),
    'earlier stages and their losses kept, then the head': _by_stage(
        _first, _second, dict(train='stages', epochs=2), dict(train='head', epochs=1)
    ),
    'the same, BN after the adapters': _by_stage(
        _first,
        _second,
        dict(train='stages', epochs=2),
        dict(train='head', epochs=1),
        **{'model.adapter_norm': True},
    ),
    'earlier stages kept, their losses dropped, then labels': _by_stage(
        _first, dict(_second, mimic='layer2'), _last, dict(train='all', epochs=2), **_task_rate
    ),
    'earlier stages kept, their losses dropped, then labels and logits': _by_stage(
        _first,
        dict(_second, mimic='layer2'),
        _last,
        dict(train='all', logits=True, task_weight=0.1, epochs=2),
        **_task_rate,
    ),
    'earlier stages and their losses kept, then labels beside them': _by_stage(
        _first,
        _second,
        dict(train='stages', epochs=1),
        dict(train='all', mimic='stages', task_loss=True, epochs=2),
        **_task_rate,
    ),
}
plain = 'plain student'
epochs = 5
equal_seconds = 'earlier stages kept, their losses dropped, then labels and logits'
seeds = [0, 1, 2]
val_interval = 5
