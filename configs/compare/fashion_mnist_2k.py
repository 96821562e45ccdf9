# The pair of fashion_mnist_10k.py where the student has 2,000 of the teacher's 10,000 images, all with labels, and as many
# iterations as the teacher: a pair whose gap stays when plain training has the time it needs, since the teacher has seen more than
# the student's data. Two rates for each arm, around those that fashion_mnist_10k.py chose.
title = 'Fashion-MNIST, 2,000 of the teacher’s 10,000 images: ResNet-20 to ResNet-14, students with the iterations of the teacher'
metric = 'accuracy/top1'
per_class = 'single-label/recall_classwise'
teacher = '../plain/fashion_mnist_10k_r20x05.py'

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


def _task(*rates):
    return [{'optim_wrapper.optimizer.lr': lr} for lr in rates]


def _adam(lr):
    return {_transfer: dict(optim_wrapper=dict(optimizer=dict(type='Adam', lr=lr)))}


def _start_then(**phase):
    first = [dict(train='layer1', epochs=1), dict(train=['layer1', 'layer2'], epochs=1), dict(train='stages', epochs=2)]
    return dict(
        config='../baselines/fashion_mnist_10k_sskd_default.py',
        options={
            **_images,
            **_adam(0.04),
            'default_hooks.stage_schedule.phases': [*first, dict(train='all', epochs=16, **phase)],
        },
        tries=_task(0.1, 0.05),
    )


_stages = [_adam(0.04), _adam(0.02)]
_kd = '../baselines/fashion_mnist_10k_kd.py'
arms = {
    'plain student': dict(config='../plain/fashion_mnist_10k_r14x05.py', options=_images, tries=_task(0.1, 0.05)),
    'plain, from the teacher’s weights': dict(
        config='../baselines/fashion_mnist_10k_from_teacher.py', options=_images, tries=_task(0.02, 0.01)
    ),
    'Hinton KD': dict(config=_kd, options=_images, tries=_task(0.1, 0.05)),
    'Hinton KD, from the teacher’s weights': dict(
        config=_kd, options={**_images, 'model.student_from_teacher': True}, tries=_task(0.02, 0.01)
    ),
    'SSKD, literal': dict(config='../baselines/fashion_mnist_10k_sskd_literal.py', options=_images, tries=_stages),
    'earlier stages and their losses kept, then the head': dict(
        config='../baselines/fashion_mnist_10k_sskd_default.py', options=_images, tries=_stages
    ),
    'the same for a fifth of the epochs, then labels': _start_then(),
    'the same for a fifth of the epochs, then labels and logits': _start_then(logits=True, task_weight=0.1),
    'recommended, no labels': dict(config='../sskd/fashion_mnist_10k_r20_r14.py', options=_images, tries=_stages),
}
plain = 'plain student'
epochs = 20
seeds = [0, 1, 2]
val_interval = 5
