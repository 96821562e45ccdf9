# The pair of fashion_mnist_10k.py with as many epochs for the student as for the teacher: what is left when plain training has
# the time it needs. The learning rates are those that fashion_mnist_10k.py chose; phases keep their shares. Those of the two arms
# that end with labels are what fashion_mnist_10k_small_student.py chose.
title = 'Fashion-MNIST, 10,000 images: ResNet-20 to ResNet-14, students with the epochs of the teacher'
metric = 'accuracy/top1'
per_class = 'single-label/recall_classwise'
teacher = '../plain/fashion_mnist_10k_r20x05.py'

_transfer = 'default_hooks.stage_schedule.transfer'


def _start_then(**phase):
    first = [dict(train='layer1', epochs=1), dict(train=['layer1', 'layer2'], epochs=1), dict(train='stages', epochs=2)]
    return dict(
        config='../baselines/fashion_mnist_10k_sskd_default.py',
        options={
            _transfer: dict(optim_wrapper=dict(optimizer=dict(type='Adam', lr=0.04))),
            'default_hooks.stage_schedule.phases': [*first, dict(train='all', epochs=16, **phase)],
        },
    )


arms = {
    'plain student': dict(config='../plain/fashion_mnist_10k_r14x05.py'),
    'plain, from the teacher’s weights': dict(
        config='../baselines/fashion_mnist_10k_from_teacher.py', options={'optim_wrapper.optimizer.lr': 0.01}
    ),
    'Hinton KD': dict(config='../baselines/fashion_mnist_10k_kd.py', options={'optim_wrapper.optimizer.lr': 0.05}),
    'earlier stages and their losses kept, then the head': dict(
        config='../baselines/fashion_mnist_10k_sskd_default.py',
        options={_transfer: dict(optim_wrapper=dict(optimizer=dict(type='Adam', lr=0.04)))},
    ),
    'the same for a fifth of the epochs, then labels': _start_then(),
    'the same for a fifth of the epochs, then labels and logits': _start_then(logits=True, task_weight=0.1),
    'recommended, no labels': dict(config='../sskd/fashion_mnist_10k_r20_r14.py'),
}
plain = 'plain student'
epochs = 20
seeds = [0, 1, 2]
val_interval = 20
