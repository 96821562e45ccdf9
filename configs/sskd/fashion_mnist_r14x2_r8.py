# Stage by stage on Fashion-MNIST: a wide ResNet-14 teaches ResNet-8. 20 epochs in all, as many as plain training takes.
# The teacher first: python tools/train.py configs/plain/fashion_mnist_r14x2.py
_base_ = [
    '../_base_/datasets/fashion_mnist.py',
    '../_base_/schedules/fashion_mnist_20e.py',
    '../_base_/default_runtime.py',
]

model = dict(
    type='mmsskd.StagewiseDistiller',
    _scope_='mmpretrain',
    teacher=dict(cfg_path='mmsskd::plain/fashion_mnist_r14x2.py'),
    teacher_checkpoint='work_dirs/fashion_mnist_r14x2/epoch_20.pth',
    student=dict(cfg_path='mmsskd::plain/fashion_mnist_r8.py'),
    input_shape=(1, 28, 28),
)

# layer1, layer2, layer3: 6 epochs each, no labels; then the head alone: 2 epochs, from ground truth.
default_hooks = dict(
    stage_schedule=dict(
        type='mmsskd.StageScheduleHook',
        transfer=dict(epochs=6),
        head=dict(epochs=2),
    )
)
