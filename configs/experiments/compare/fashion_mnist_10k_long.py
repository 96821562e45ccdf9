# The pair of fashion_mnist_10k.py with as many epochs for the student as for the teacher: what is left when plain training has
# the time it needs. Phases keep their shares. Of two rates for each arm the first is what fashion_mnist_10k.py chose or, where an
# arm is not in it, what plain training has.
title = 'Fashion-MNIST, 10,000 images: ResNet-20 to ResNet-14, students with the epochs of the teacher'
metric = 'accuracy/top1'
per_class = 'single-label/recall_classwise'
teacher = '../../plain/fashion_mnist_10k_r20x05.py'

_transfer = 'default_hooks.stage_schedule.transfer'
_phases = 'default_hooks.stage_schedule.phases'
_default = '../baselines/fashion_mnist_10k_sskd_default.py'
_first = [dict(train='layer1', epochs=1), dict(train=['layer1', 'layer2'], epochs=1), dict(train='stages', epochs=2)]


def _adam(lr):
    return dict(optim_wrapper=dict(optimizer=dict(type='Adam', lr=lr)))


def _or(lr):
    return [{}, {'optim_wrapper.optimizer.lr': lr}]


def _start_then(**phase):
    """A fifth of the epochs stage by stage, the others for everything from labels."""
    phases = [*_first, dict(train='all', epochs=16, **phase)]
    return {_transfer: _adam(0.04), _phases: phases}


arms = {
    'plain student': dict(config='../../plain/fashion_mnist_10k_r14x05.py', tries=_or(0.05)),
    # what the arms that start stage by stage do without a teacher: other steps first, then labels anew
    'labels by Adam for a fifth of the epochs, then labels anew': dict(
        config=_default,
        options={_phases: [dict(train='all', epochs=4, **_adam(0.01)), dict(train='all', epochs=16)]},
        tries=_or(0.05),
    ),
    'plain, from the teacher’s weights': dict(
        config='../baselines/fashion_mnist_10k_from_teacher.py',
        options={'optim_wrapper.optimizer.lr': 0.01},
        tries=_or(0.1),
    ),
    'Hinton KD': dict(
        config='../baselines/fashion_mnist_10k_kd.py', options={'optim_wrapper.optimizer.lr': 0.05}, tries=_or(0.1)
    ),
    'earlier stages and their losses kept, then the head': dict(
        config=_default, options={_transfer: _adam(0.04)}, tries=[{}, {_transfer: _adam(0.02)}]
    ),
    'the same for a fifth of the epochs, then labels': dict(config=_default, options=_start_then(), tries=_or(0.05)),
    'the same for a fifth of the epochs, then labels and logits': dict(
        config=_default, options=_start_then(logits=True, task_weight=0.1), tries=_or(0.05)
    ),
    'recommended, no labels': dict(
        config='../../sskd/fashion_mnist_10k_r20_r14.py', tries=[{}, {f'{_transfer}.optim_wrapper.optimizer.lr': 0.04}]
    ),
}
plain = 'plain student'
epochs = 20
seeds = [0, 1, 2]
val_interval = 20
