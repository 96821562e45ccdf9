# The pair of fashion_mnist_10k.py where the teacher itself is trained for five epochs only, and each student for five: what a first
# try looks like. How many of them should the stages have, and does the start from the teacher's weights go with them? Nothing is
# searched: rates from scratch and from the teacher's weights are those of the tables of docs/results.md.
title = 'Fashion-MNIST, 10,000 images: ResNet-20 to ResNet-14, five epochs for the teacher and for each student'
metric = 'accuracy/top1'
teacher = dict(config='../../plain/fashion_mnist_10k_r20x05.py', options={'train_cfg.max_epochs': 5})

_hook = 'default_hooks.stage_schedule'
_stages = [dict(train='layer1', epochs=1), dict(train=['layer1', 'layer2'], epochs=1)]
_from_teacher = {'model.init_from_teacher': 'all', 'optim_wrapper.optimizer.lr': 0.02}


def _by_stage(*phases, **options):
    return dict(
        config='../baselines/fashion_mnist_10k_sskd_default.py',
        options={
            f'{_hook}.transfer': dict(optim_wrapper=dict(optimizer=dict(type='Adam', lr=0.02))),
            f'{_hook}.phases': list(phases),
            'optim_wrapper.optimizer.lr': 0.1,
            **options,
        },
    )


_one, _all = dict(train='stages', epochs=1), dict(train='all')
arms = {
    'plain student': dict(
        config='../../plain/fashion_mnist_10k_r14x05.py', options={'optim_wrapper.optimizer.lr': 0.1}
    ),
    'plain, from the teacher’s weights': _by_stage(dict(_all, epochs=5), **_from_teacher),
    'stage by stage for three epochs, then labels': _by_stage(*_stages, _one, dict(_all, epochs=2)),
    'all stages for one epoch, then labels': _by_stage(_one, dict(_all, epochs=4)),
    'the same, from the teacher’s weights': _by_stage(_one, dict(_all, epochs=4), **_from_teacher),
    'recommended, no labels': _by_stage(
        _stages[0], dict(_stages[1], mimic='layer2'), dict(train='stages', mimic='layer3', epochs=3), **_from_teacher
    ),
}
plain = 'plain student'
epochs = 5
seeds = [0, 1, 2]
val_interval = 5
