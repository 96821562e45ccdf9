# Stage by stage on ImageNet-1k: ResNet-34 teaches ResNet-18. 100 epochs in all, as many as plain training takes, and no label.
_base_ = '../_base_/imagenet_pair.py'

model = dict(
    teacher=dict(cfg_path='mmpretrain::resnet/resnet34_8xb32_in1k.py'),
    teacher_checkpoint='https://mmassets.onedl.ai/mmclassification/v0/resnet/resnet34_8xb32_in1k_20210831-f257d4e6.pth',
    student=dict(cfg_path='mmpretrain::resnet/resnet18_8xb32_in1k.py'),
)
