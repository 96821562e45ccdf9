# The pair of fashion_mnist_10k.py from scratch: what becomes of the earlier stages while a later one learns.
title = 'Fashion-MNIST, 10,000 images: earlier stages frozen, kept, or kept with their losses'
metric = 'accuracy/top1'
per_class = 'single-label/recall_classwise'
teacher = '../../plain/fashion_mnist_10k_r20x05.py'

_transfer = {'default_hooks.stage_schedule.transfer': dict(optim_wrapper=dict(optimizer=dict(type='Adam', lr=0.02)))}


def _arm(*phases):
    options = {**_transfer, 'model.init_from_teacher': 'head', 'default_hooks.stage_schedule.phases': list(phases)}
    return dict(config='../../_base_/fashion_mnist_10k_r20_r14.py', options=options)


_first = dict(train='layer1', epochs=1)
_second = dict(train=['layer1', 'layer2'], epochs=1)
_third = dict(train='stages', epochs=3)
arms = {
    'plain student': dict(
        config='../../plain/fashion_mnist_10k_r14x05.py', options={'optim_wrapper.optimizer.lr': 0.1}
    ),
    'frozen': _arm(_first, dict(train='layer2', epochs=1), dict(train='layer3', epochs=3)),
    'kept, their losses dropped': _arm(_first, dict(_second, mimic='layer2'), dict(_third, mimic='layer3')),
    'kept with their losses': _arm(_first, _second, _third),
    'kept with their losses, at last dropped': _arm(
        _first,
        _second,
        dict(train='stages', epochs=1),
        dict(_third, mimic='layer3', name='last', epochs=2),
    ),
}
plain = 'plain student'
epochs = 5
seeds = [0, 1, 2]
val_interval = 5
