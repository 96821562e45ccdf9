# The pair of fashion_mnist_10k.py where the student has 2,000 of the teacher's 10,000 images, all with labels, and as many
# iterations as the teacher: a pair whose gap stays when plain training has the time it needs, since the teacher has seen more than
# the student's data. The rates are those that fashion_mnist_10k.py and fashion_mnist_10k_long.py chose.
title = 'Fashion-MNIST, 2,000 of the teacher’s 10,000 images: ResNet-20 to ResNet-14, students with the iterations of the teacher'
metric = 'accuracy/top1'
per_class = 'single-label/recall_classwise'
teacher = '../../plain/fashion_mnist_10k_r20x05.py'

_images = {
    'train_dataloader.dataset': dict(
        _delete_=True,
        type='RepeatDataset',
        times=5,
        dataset=dict(
            type='mmsskd.IdxImages',
            data_root='{{$FASHION_MNIST:/usr/share/datasets/fashion-mnist}}',
            images='train-images-idx3-ubyte',
            labels='train-labels-idx1-ubyte',
            indices=2000,
            pipeline=[
                dict(type='mmpretrain.RandomCrop', crop_size=28, padding=2),
                dict(type='mmpretrain.RandomFlip', prob=0.5, direction='horizontal'),
                dict(type='mmpretrain.PackInputs'),
            ],
        ),
    )
}
_transfer = 'default_hooks.stage_schedule.transfer'
_phases = 'default_hooks.stage_schedule.phases'
_first = [dict(train='layer1', epochs=1), dict(train=['layer1', 'layer2'], epochs=1), dict(train='stages', epochs=2)]


def _arm(config, rate=None, **options):
    rates = {} if rate is None else {'optim_wrapper.optimizer.lr': rate}
    return dict(config=config, options={**_images, **rates, **options})


def _by_stage(*phases):
    options = {_transfer: dict(optim_wrapper=dict(optimizer=dict(type='Adam', lr=0.04)))}
    return _arm(
        '../baselines/fashion_mnist_10k_sskd_default.py', **options, **({_phases: list(phases)} if phases else {})
    )


arms = {
    'plain student': _arm('../../plain/fashion_mnist_10k_r14x05.py', 0.1),
    'Hinton KD': _arm('../baselines/fashion_mnist_10k_kd.py', 0.05),
    'earlier stages and their losses kept, then the head': _by_stage(),
    'the same for a fifth of the epochs, then labels': _by_stage(*_first, dict(train='all', epochs=16)),
    'recommended, no labels': _arm('../../sskd/fashion_mnist_10k_r20_r14.py'),
}
plain = 'plain student'
epochs = 20
seeds = [0, 1, 2]
val_interval = 5
