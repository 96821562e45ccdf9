# Stage by stage on CIFAR-100: ResNet-32x4 teaches ResNet-8x4. 240 epochs in all, as many as plain training takes.
# The teacher first: python tools/train.py configs/plain/cifar100_r32x4.py
_base_ = '../_base_/cifar100_pair.py'

model = dict(
    teacher=dict(cfg_path='mmsskd::plain/cifar100_r32x4.py'),
    teacher_checkpoint='work_dirs/cifar100_r32x4/epoch_240.pth',
    student=dict(cfg_path='mmsskd::plain/cifar100_r8x4.py'),
)
