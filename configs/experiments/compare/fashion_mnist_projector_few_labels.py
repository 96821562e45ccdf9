# The pair of fashion_mnist_projector.py whose student is half as wide, where 100 of the 2,000 images have labels. The teacher
# has learned from all of them. An epoch takes as many iterations for every arm: few labeled images are repeated.
_base_ = './fashion_mnist_projector.py'

title = 'Fashion-MNIST, 2,000 images of which 100 have labels: ResNet-20 to ResNet-14 of half the widths'
_plain = '../../plain/fashion_mnist_10k_r14x05.py'
_narrow_plain = {'model.backbone.width': 0.25, 'model.backbone.stem_channels': 4, 'model.head.in_channels': 16}
_labeled = dict(
    type='RepeatDataset',
    times=20,
    dataset=dict(
        type='mmsskd.IdxImages',
        data_root='{{$FASHION_MNIST:/usr/share/datasets/fashion-mnist}}',
        images='train-images-idx3-ubyte',
        labels='train-labels-idx1-ubyte',
        indices=100,
        pipeline=[
            dict(type='mmpretrain.RandomCrop', crop_size=28, padding=2),
            dict(type='mmpretrain.RandomFlip', prob=0.5, direction='horizontal'),
            dict(type='mmpretrain.PackInputs'),
        ],
    ),
)
_few = dict(batch_size=32, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=True), dataset=_labeled)
_hook = 'default_hooks.stage_schedule'
_transfer = dict(optim_wrapper=dict(optimizer=dict(type='Adam', lr=0.02)))
_narrow_student = {
    'model.student.backbone': dict(width=0.25, stem_channels=4),
    'model.student.head': dict(in_channels=16),
}


def _arm(phases, **options):
    options = {f'{_hook}.phases': phases, f'{_hook}.transfer': _transfer, **_narrow_student, **options}
    return dict(config='../../_base_/fashion_mnist_10k_r20_r14.py', options=options)


_default = [
    dict(train='layer1', epochs=1),
    dict(train=['layer1', 'layer2'], epochs=1),
    dict(train='stages', epochs=2),
    dict(train='head', epochs=1),
]
_sgd = dict(
    optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.05, momentum=0.9, weight_decay=5e-4)),
    param_scheduler=[dict(type='CosineAnnealingLR', by_epoch=True, convert_to_iter_based=True)],
)
_kept = {
    'model.projector': dict(type='mmsskd.BottleneckProjector', reduction=2),
    'model.init_from_teacher': 'head',
}
arms = dict(
    _delete_=True,
    **{
        'plain student, all labels': dict(config=_plain, options=_narrow_plain),
        'plain student, 100 labels': dict(
            config=_plain, options={**_narrow_plain, 'train_dataloader.dataset': dict(_delete_=True, **_labeled)}
        ),
        'Hinton KD, no labels': _arm([dict(train='all', logits=True, task_loss=False, epochs=5, **_sgd)]),
        # the stages see all images, the head those with labels
        'default, head from 100 labels': _arm(_default, **{f'{_hook}.head': dict(train_dataloader=_few)}),
        'last stage alone and projector, no labels': _arm([dict(train='stages', mimic='layer3', epochs=5)], **_kept),
        'the same, then its head from 100 labels': _arm(
            [dict(train='stages', mimic='layer3', epochs=4), dict(train='head', epochs=1)],
            **_kept,
            **{f'{_hook}.head': dict(train_dataloader=_few)},
        ),
    },
)
plain = 'plain student, all labels'
