# ResNet-20 teaches ResNet-14 of the same widths on 10,000 images of Fashion-MNIST: the ways of the field and ours, at a quarter of
# the teacher's epochs. Needs Debian's package dataset-fashion-mnist.
title = 'Fashion-MNIST, 10,000 images: ResNet-20 to ResNet-14 of the same widths'
metric = 'accuracy/top1'
per_class = 'single-label/recall_classwise'
teacher = '../../plain/fashion_mnist_10k_r20x05.py'

# three learning rates for each arm, around what suits it: of what learns the task, and of transfer phases
_task, _kd, _gentle = (
    [{'optim_wrapper.optimizer.lr': lr} for lr in rates]
    for rates in ((0.1, 0.05, 0.2), (0.1, 0.05, 0.02), (0.01, 0.05, 0.02))
)
_transfer, _slow_transfer = (
    [
        {'default_hooks.stage_schedule.transfer': dict(optim_wrapper=dict(optimizer=dict(type='Adam', lr=lr)))}
        for lr in rates
    ]
    for rates in ((0.01, 0.04, 0.02), (0.01, 0.005, 0.02))
)
arms = {
    'plain student': dict(config='../../plain/fashion_mnist_10k_r14x05.py', tries=_task),
    'plain, from the teacher’s weights': dict(config='../baselines/fashion_mnist_10k_from_teacher.py', tries=_gentle),
    'Hinton KD': dict(config='../baselines/fashion_mnist_10k_kd.py', tries=_kd),
    'Hinton KD, then fine-tuning': dict(config='../baselines/fashion_mnist_10k_kd_ft.py', tries=_kd),
    'Hinton KD, from the teacher’s weights': dict(
        config='../baselines/fashion_mnist_10k_kd.py', options={'model.init_from_teacher': 'all'}, tries=_gentle
    ),
    'FitNets': dict(config='../baselines/fashion_mnist_10k_fitnets.py', tries=_gentle),
    'FitNets, then fine-tuning': dict(config='../baselines/fashion_mnist_10k_fitnets_ft.py', tries=_gentle),
    'all stages jointly': dict(config='../baselines/fashion_mnist_10k_joint.py', tries=_task),
    'all stages jointly, then fine-tuning': dict(config='../baselines/fashion_mnist_10k_joint_ft.py', tries=_task),
    'SSKD, literal': dict(config='../baselines/fashion_mnist_10k_sskd_literal.py', tries=_transfer),
    'SSKD, literal, then fine-tuning': dict(
        config='../baselines/fashion_mnist_10k_sskd_literal_ft.py', tries=_transfer
    ),
    'earlier stages and their losses kept, then the head': dict(
        config='../baselines/fashion_mnist_10k_sskd_default.py',
        tries=_transfer,
    ),
    'earlier stages kept, their losses dropped': dict(
        config='../baselines/fashion_mnist_10k_sskd_kept.py', tries=_transfer
    ),
    'earlier stages kept, their losses dropped, then fine-tuning': dict(
        config='../baselines/fashion_mnist_10k_sskd_kept_ft.py', tries=_transfer
    ),
    'recommended, no labels': dict(config='../../sskd/fashion_mnist_10k_r20_r14.py', tries=_transfer),
    'recommended, then labels': dict(
        config='../../sskd/fashion_mnist_10k_r20_r14.py',
        options={
            'default_hooks.stage_schedule.phases': [
                dict(train='layer1', epochs=1),
                dict(train=['layer1', 'layer2'], mimic='layer2', epochs=1),
                dict(train='stages', mimic='layer3', epochs=1),
                dict(train='all', epochs=2),
            ],
            'optim_wrapper.optimizer.lr': 0.02,
        },
        tries=_slow_transfer,
    ),
}
plain = 'plain student'
epochs = 5
equal_seconds = 'recommended, no labels'
seeds = [0, 1, 2]
val_interval = 5
