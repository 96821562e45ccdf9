# Two arms of fashion_mnist_10k_long.py, with the rates that it chose, over six seeds: three left it open which is better.
title = (
    'Fashion-MNIST, 10,000 images, the epochs of the teacher: plain training, and stage by stage for the first fifth'
)
metric = 'accuracy/top1'
per_class = 'single-label/recall_classwise'
teacher = '../../plain/fashion_mnist_10k_r20x05.py'

arms = {
    'plain student': dict(
        config='../../plain/fashion_mnist_10k_r14x05.py', options={'optim_wrapper.optimizer.lr': 0.05}
    ),
    'stage by stage for a fifth of the epochs, then labels': dict(
        config='../baselines/fashion_mnist_10k_sskd_default.py',
        options={
            'default_hooks.stage_schedule.transfer': dict(optim_wrapper=dict(optimizer=dict(type='Adam', lr=0.04))),
            'default_hooks.stage_schedule.phases': [
                dict(train='layer1', epochs=1),
                dict(train=['layer1', 'layer2'], epochs=1),
                dict(train='stages', epochs=2),
                dict(train='all', epochs=16),
            ],
        },
    ),
}
plain = 'plain student'
epochs = 20
seeds = [0, 1, 2, 3, 4, 5]
val_interval = 20
