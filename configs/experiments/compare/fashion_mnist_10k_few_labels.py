# The pair of fashion_mnist_10k.py where only the first 100 or 1,000 of the 10,000 images have labels. The teacher has learned from
# all of them. An epoch takes as many iterations for every arm: few labeled images are repeated.
title = 'Fashion-MNIST, 10,000 images of which 100 or 1,000 have labels: ResNet-20 to ResNet-14 of the same widths'
metric = 'accuracy/top1'
per_class = 'single-label/recall_classwise'
teacher = '../../plain/fashion_mnist_10k_r20x05.py'

_pipeline = [
    dict(type='mmpretrain.RandomCrop', crop_size=28, padding=2),
    dict(type='mmpretrain.RandomFlip', prob=0.5, direction='horizontal'),
    dict(type='mmpretrain.PackInputs'),
]
_labeled = {
    count: dict(
        batch_size=32,
        num_workers=0,
        sampler=dict(type='DefaultSampler', shuffle=True),
        dataset=dict(
            type='RepeatDataset',
            times=10000 // count,
            dataset=dict(
                type='mmsskd.IdxImages',
                data_root='{{$FASHION_MNIST:/usr/share/datasets/fashion-mnist}}',
                images='train-images-idx3-ubyte',
                labels='train-labels-idx1-ubyte',
                indices=count,
                pipeline=_pipeline,
            ),
        ),
    )
    for count in (100, 1000)
}
_run = {count: {'train_dataloader.dataset': dict(_delete_=True, **_labeled[count]['dataset'])} for count in (100, 1000)}
_head = {count: {'default_hooks.stage_schedule.head': dict(train_dataloader=_labeled[count])} for count in (100, 1000)}
_transfer = 'default_hooks.stage_schedule.transfer'


def _task(*rates):
    return [{'optim_wrapper.optimizer.lr': lr} for lr in rates]


def _logits(*rates):
    return [{f'{_transfer}.optim_wrapper.optimizer.lr': lr} for lr in rates]


_stages = [{_transfer: dict(optim_wrapper=dict(optimizer=dict(type='Adam', lr=lr)))} for lr in (0.01, 0.02, 0.04)]
arms = {
    f'{name}, {count} labels': dict(
        config=config, options={**where[count], **options}, tries=tries, plain=f'plain student, {count} labels'
    )
    for count in (100, 1000)
    for name, config, where, options, tries in (
        ('plain student', '../../plain/fashion_mnist_10k_r14x05.py', _run, {}, _task(0.1, 0.05, 0.02)),
        (
            'plain, from the teacher’s weights',
            '../baselines/fashion_mnist_10k_from_teacher.py',
            _run,
            {},
            _task(0.05, 0.02, 0.01),
        ),
        ('Hinton KD', '../baselines/fashion_mnist_10k_kd.py', _run, {}, _task(0.1, 0.05, 0.02)),
        (
            'Hinton KD, all images',
            '../baselines/fashion_mnist_10k_kd_unlabelled.py',
            _head,
            {},
            _logits(0.2, 0.1, 0.05),
        ),
        (
            'Hinton KD, all images, from the teacher’s weights',
            '../baselines/fashion_mnist_10k_kd_unlabelled.py',
            _head,
            {'model.init_from_teacher': 'all'},
            _logits(0.1, 0.03, 0.01),
        ),
        (
            'default schedule, all images, head from labels',
            '../baselines/fashion_mnist_10k_sskd_default.py',
            _head,
            {},
            _stages,
        ),
        (
            'stages from the teacher’s weights, all images, its head tuned on labels',
            '../baselines/fashion_mnist_10k_sskd_head.py',
            _head,
            {},
            _stages,
        ),
    )
}
arms['recommended, no labels'] = dict(
    config='../../sskd/fashion_mnist_10k_r20_r14.py', tries=_stages, plain='plain student, 100 labels'
)
plain = 'plain student, 100 labels'
epochs = 5
seeds = [0, 1, 2]
val_interval = 5
