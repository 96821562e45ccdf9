# ResNet-20 teaches a ResNet-14 of half its widths (4, 8, 16 channels): what mimics needs adapters, and neither the teacher's
# weights nor its head fit. Otherwise as fashion_mnist_10k.py.
title = 'Fashion-MNIST, 10,000 images: ResNet-20 to ResNet-14 of half the widths (adapters)'
metric = 'accuracy/top1'
per_class = 'single-label/recall_classwise'
teacher = '../plain/fashion_mnist_10k_r20x05.py'

_narrow = {
    'model.student.backbone': dict(width=0.25, stem_channels=4),
    'model.student.head': dict(in_channels=16),
}
_task = [{'optim_wrapper.optimizer.lr': lr} for lr in (0.1, 0.05, 0.02)]
_transfer = [
    {'default_hooks.stage_schedule.transfer': dict(optim_wrapper=dict(optimizer=dict(type='Adam', lr=lr)))}
    for lr in (0.01, 0.005, 0.02)
]
arms = {
    'plain student': dict(
        config='../plain/fashion_mnist_10k_r14x05.py',
        options={'model.backbone.width': 0.25, 'model.backbone.stem_channels': 4, 'model.head.in_channels': 16},
        tries=_task,
    ),
    'Hinton KD': dict(config='../baselines/fashion_mnist_10k_kd.py', options=_narrow, tries=_task),
    'FitNets': dict(config='../baselines/fashion_mnist_10k_fitnets.py', options=_narrow, tries=_task),
    'all stages jointly': dict(config='../baselines/fashion_mnist_10k_joint.py', options=_narrow, tries=_task),
    'SSKD, literal': dict(config='../baselines/fashion_mnist_10k_sskd_literal.py', options=_narrow, tries=_transfer),
    'earlier stages kept, then labels': dict(
        config='../baselines/fashion_mnist_10k_sskd_kept_ft.py', options=_narrow, tries=_transfer
    ),
    'earlier stages kept, then labels and logits': dict(
        config='../baselines/fashion_mnist_10k_sskd_kept_kd.py', options=_narrow, tries=_transfer
    ),
}
plain = 'plain student'
epochs = 5
equal_seconds = 'earlier stages kept, then labels and logits'
seeds = [0, 1, 2]
val_interval = 5
