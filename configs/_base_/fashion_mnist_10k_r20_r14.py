# A ResNet-20 teaches a ResNet-14, both of half width (8, 16, 32 channels), on 10,000 images of Fashion-MNIST: what all ways of
# distilling share. The teacher first: python tools/train.py configs/plain/fashion_mnist_10k_r20x05.py
_base_ = [
    './datasets/fashion_mnist_10k.py',
    './schedules/fashion_mnist_10k_5e.py',
    './default_runtime.py',
]

model = dict(
    type='mmsskd.StagewiseDistiller',
    _scope_='mmpretrain',
    teacher=dict(cfg_path='mmsskd::plain/fashion_mnist_10k_r20x05.py'),
    teacher_checkpoint='work_dirs/fashion_mnist_10k_r20x05/epoch_20.pth',
    student=dict(cfg_path='mmsskd::plain/fashion_mnist_10k_r14x05.py'),
    input_shape=(1, 28, 28),
    logits='head.fc',
)
default_hooks = dict(stage_schedule=dict(type='mmsskd.StageScheduleHook'))
