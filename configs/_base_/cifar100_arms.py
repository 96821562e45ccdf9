# The ways of distilling that are compared on CIFAR-100, as changes of configs/sskd/cifar100_<teacher>_<student>.py. A file of
# configs/experiments/compare/ adds teacher and students. Images are read from files in the Python format of CIFAR-100, `train` and
# `test`, in data/cifar100/cifar-100-python or the folder that the environment variable CIFAR100 names. They stay in memory, and
# steps of a GPU are one CUDA graph each: networks this small wait for Python otherwise.
metric = 'accuracy/top1'
plain = 'plain'
epochs = 240
seeds = [0, 1, 2]
val_interval = 240

_files = dict(
    type='mmsskd.ResidentImages', of='mmsskd.CIFARFiles', data_root='{{$CIFAR100:data/cifar100/cifar-100-python}}'
)
_crop_and_flip = [
    dict(type='mmpretrain.RandomCrop', crop_size=32, padding=4),
    dict(type='mmpretrain.RandomFlip', prob=0.5, direction='horizontal'),
]
_pack = [dict(type='mmpretrain.PackInputs')]
_test = dict(_files, files='test', pipeline=_pack, _delete_=True)
options = {
    'data_preprocessor.to_rgb': True,  # the order of these files is that of OpenMMLab's own readers
    'train_dataloader.dataset': dict(_files, files='train', pipeline=[*_crop_and_flip, *_pack], _delete_=True),
    'val_dataloader.dataset': _test,
    'test_dataloader.dataset': _test,
}

_captured = {'custom_hooks': [dict(type='mmsskd.CapturedStepsHook')]}  # of teachers and plain students
_hook = 'default_hooks.stage_schedule'
# The configs of the pairs have stages, projector and logits; the other arms begin without
_without = {
    **{f'model.{key}': None for key in ('projector', 'init_from_teacher', 'mimic_loss', 'logits')},
    f'{_hook}.phases': None,
    f'{_hook}.cuda_graph': True,
    f'{_hook}.transfer': dict(epochs=70),
    f'{_hook}.head': dict(
        epochs=30, param_scheduler=[dict(type='CosineAnnealingLR', by_epoch=True, convert_to_iter_based=True)]
    ),
}
_projector = dict(type='mmsskd.BottleneckProjector', reduction=2)
_raw = dict(type='mmsskd.FeatureMimicLoss', normalize='none')
_sgd = dict(
    optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.05, momentum=0.9, weight_decay=5e-4)),
    param_scheduler=[dict(type='MultiStepLR', by_epoch=True, milestones=[150, 180, 210], gamma=0.1)],
)
_kept = {  # the projector stays, and the head is the teacher's
    'model.projector': _projector,
    'model.init_from_teacher': 'head',
}
_last = dict(train='stages', mimic='layer3', epochs=240, **_sgd)
# a twelfth for each of the first stages, as Adam and cosine do it; then the last stage, in the field's schedule at its length
_stages = [
    dict(train='layer1', epochs=20),
    dict(train=['layer1', 'layer2'], mimic='layer2', epochs=20),
    dict(
        train='stages',
        mimic='layer3',
        epochs=200,
        optim_wrapper=_sgd['optim_wrapper'],
        param_scheduler=[dict(type='MultiStepLR', by_epoch=True, milestones=[125, 150, 175], gamma=0.1)],
    ),
]
_logits = {  # 0.1 of the divergence at T = 4 beside the raw features, still without a label
    'model.logits': dict(module='head.fc', loss=dict(type='mmsskd.LogitsKDLoss', temperature=4.0, loss_weight=0.1)),
    'model.mimic_loss': _raw,
}
_then_all = [
    dict(train='layer1', epochs=16),
    dict(train=['layer1', 'layer2'], epochs=16),
    dict(train='stages', epochs=16),
    dict(
        train='all',
        epochs=192,
        param_scheduler=[dict(type='MultiStepLR', by_epoch=True, milestones=[120, 144, 168], gamma=0.1)],
    ),
]
_same_images = {'model.teacher.data_preprocessor.to_rgb': True}
_arms = {
    'KD': {
        'model.logits': 'head.fc',
        f'{_hook}.phases': [dict(train='all', logits=True, task_weight=0.1, epochs=240)],
        f'{_hook}.head': dict(epochs=240),
    },
    'SimKD as published': {**_kept, 'model.mimic_loss': _raw, f'{_hook}.phases': [_last]},
    'SimKD and logits': {**_kept, **_logits, f'{_hook}.phases': [dict(_last, logits=True)]},
    'default': {},
    'default with projector and the head of the teacher': {
        **_kept,
        f'{_hook}.phases': [
            dict(train='layer1', epochs=60),
            dict(train=['layer1', 'layer2'], epochs=60),
            dict(train='stages', epochs=120),
        ],
    },
    'recommended': {
        'model.init_from_teacher': 'all',
        f'{_hook}.phases': [
            dict(train='layer1', epochs=48),
            dict(train=['layer1', 'layer2'], mimic='layer2', epochs=48),
            dict(train='stages', mimic='layer3', epochs=144),
        ],
    },
    'stages and projector': {**_kept, 'model.mimic_loss': _raw, f'{_hook}.phases': _stages},
    'stages, projector and logits': {
        **_kept,
        **_logits,
        f'{_hook}.phases': [*_stages[:2], dict(_stages[2], logits=True)],
    },
    'then_all': {f'{_hook}.phases': _then_all},
    'then_all with projector': {**_kept, f'{_hook}.phases': _then_all},
    'literal': {f'{_hook}.phases': 'sskd_literal'},
}
_three_seeds = ('KD', 'SimKD as published', 'default', 'stages and projector', 'stages, projector and logits')
_recipes = {
    name: dict(options={**_same_images, **_without, **changes}, **({} if name in _three_seeds else dict(seeds=1)))
    for name, changes in _arms.items()
}

# What the first stages add to the last one, which is the same in all: its projector, the head of the teacher, and the logits
_names = ['layer1', 'layer2', 'layer3']
_tenth = dict(_raw, loss_weight=0.1)
_with_logits = _recipes['stages, projector and logits']['options']
_stages_alone = {
    'last stage alone': _recipes['SimKD and logits'],
    'stages, then the last': _recipes['stages, projector and logits'],
    'stages kept with their losses': dict(
        options={
            **_with_logits,
            f'{_hook}.phases': [*_stages[:2], dict(_stages[2], mimic=_names, logits=True, task_loss=False)],
        }
    ),
    'all stages, then the last': dict(
        options={
            **_with_logits,
            'model.mimic_loss': dict(layer3=_raw),
            f'{_hook}.phases': [dict(train='stages', mimic=_names, epochs=40), dict(_stages[2], logits=True)],
        }
    ),
    'the last, a tenth of the others beside it': dict(
        options={
            **_with_logits,
            'model.mimic_loss': dict(layer1=_tenth, layer2=_tenth, layer3=_raw),
            f'{_hook}.phases': [dict(_last, mimic=_names, logits=True, task_loss=False)],
        }
    ),
}
