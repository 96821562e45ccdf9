# CIFAR-100, ResNet-32x4 to ResNet-8x4, in the protocol of the distillation field (arXiv 1910.10699): 240 epochs, batch 64, the
# accuracy on the test images after the last epoch, nothing chosen on them. Published, SimKD in arXiv 2203.14001:
# plain 72.50, KD 73.33, SimKD 78.08.
#   python tools/compare.py configs/experiments/compare/cifar100_r32x4_r8x4.py
_base_ = '../../_base_/cifar100_arms.py'

title = 'CIFAR-100: ResNet-32x4 to ResNet-8x4, 240 epochs'
teacher = dict(config='../../plain/cifar100_r32x4.py', options=_base_._captured)
arms = {
    'plain': dict(config='../../plain/cifar100_r8x4.py', options=_base_._captured),
    **{name: dict(config='../../sskd/cifar100_r32x4_r8x4.py', **recipe) for name, recipe in _base_._recipes.items()},
}
