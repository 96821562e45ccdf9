# Stage by stage on CIFAR-100: ResNet-110 teaches ResNet-32. 240 epochs in all, as many as plain training takes.
# The teacher first: python tools/train.py configs/plain/cifar100_r110.py
_base_ = '../_base_/cifar100_pair.py'

model = dict(
    teacher=dict(cfg_path='mmsskd::plain/cifar100_r110.py'),
    teacher_checkpoint='work_dirs/cifar100_r110/epoch_240.pth',
    student=dict(cfg_path='mmsskd::plain/cifar100_r32.py'),
)
