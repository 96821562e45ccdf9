# Stage by stage on CIFAR-100: ResNet-50 teaches MobileNetV2. 240 epochs in all, as many as plain training takes.
_base_ = '../_base_/cifar100_pair.py'

model = dict(
    teacher=dict(cfg_path='mmpretrain::resnet/resnet50_8xb16_cifar100.py'),
    teacher_checkpoint='https://mmassets.onedl.ai/mmclassification/v0/resnet/resnet50_b16x8_cifar100_20210528-67b58a1b.pth',
    student=dict(cfg_path='mmsskd::plain/cifar100_mobilenetv2.py'),
    resize=True,  # the teacher's maps are four times as wide: they are pooled onto the student's
)

# layer2, layer3, layer5, layer7: 52 epochs each, no labels; then the head alone: 32 epochs, from ground truth
default_hooks = dict(stage_schedule=dict(transfer=dict(epochs=52), head=dict(epochs=32)))
