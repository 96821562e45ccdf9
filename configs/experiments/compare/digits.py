# A wide ResNet-14 teaches a narrow ResNet-8 on scikit-learn's digits: 1,000 images to train, of which the student has labels for
# all, for 100, for 10 or for none, the 200 after them to choose by, and the test set. Every student has as many iterations.
# Nothing is searched: transfer phases have the defaults, the rest is the plain student's.
title = 'Digits: ResNet-14 to ResNet-8 of a quarter of the width, with a projector and without'
metric = 'accuracy/top1'
teacher = dict(config='../../plain/digits_r14x2.py', options={'train_cfg.max_epochs': 16})

_set = 'train_dataloader.dataset'
options = {
    f'{_set}.indices': 1000,
    'val_dataloader.dataset.split': 'train',
    'val_dataloader.dataset.indices': -200,
    'val_dataloader.batch_size': 200,
}
_hook = 'default_hooks.stage_schedule'
_few = {
    count: dict(
        type='RepeatDataset',
        times=1000 // count,
        dataset=dict(
            type='mmsskd.Digits',
            split='train',
            indices=count,
            pipeline=[dict(type='mmpretrain.RandomCrop', crop_size=8, padding=1), dict(type='mmpretrain.PackInputs')],
        ),
    )
    for count in (100, 10)
}
_labels = dict(batch_size=64, num_workers=0, dataset=_few[100], sampler=dict(type='DefaultSampler', shuffle=True))


def _phases(*phases, **options):
    return dict(config='../../sskd/digits_r14x2_r8.py', options={f'{_hook}.phases': list(phases), **options})


_projector = {'model.projector': dict(type='mmsskd.BottleneckProjector', reduction=2)}
_kept = {**_projector, 'model.init_from_teacher': 'head'}  # the projector stays, and the head is the teacher's
_sgd = dict(  # of the plain student
    optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1, momentum=0.9, weight_decay=5e-4)),
    param_scheduler=[dict(type='CosineAnnealingLR', by_epoch=True, convert_to_iter_based=True)],
)
arms = {
    'plain student': dict(config='../../plain/digits_r8.py'),
    **{
        f'plain student, {count} labels': dict(
            config='../../plain/digits_r8.py', options={_set: dict(_delete_=True, **dataset)}
        )
        for count, dataset in _few.items()
    },
    'plain student with the projector': _phases(
        dict(train='all', epochs=24), **{**_projector, 'model.init_from_teacher': None}
    ),
    'Hinton KD, no labels': _phases(
        dict(train='all', logits=True, task_loss=False, epochs=24, **_sgd), **{'model.logits': 'head.fc'}
    ),
    'default, 100 labels for the head': dict(
        config='../../sskd/digits_r14x2_r8.py', options={f'{_hook}.head.train_dataloader': _labels}
    ),
    'stages and projector, no labels': _phases(
        dict(train='layer1', epochs=4),
        dict(train=['layer1', 'layer2'], mimic='layer2', epochs=4),
        dict(train='stages', mimic='layer3', epochs=16),
        **_kept,
    ),
    'last stage alone and projector, no labels': _phases(dict(train='stages', mimic='layer3', epochs=24), **_kept),
}
plain = 'plain student, 100 labels'
epochs = 24
seeds = [0, 1, 2]
val_interval = 24
