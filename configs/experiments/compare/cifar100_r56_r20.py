# CIFAR-100, ResNet-56 to ResNet-20, in the protocol of the distillation field (arXiv 1910.10699): 240 epochs, batch 64, the
# accuracy on the test images after the last epoch, nothing chosen on them. Published, SimKD in arXiv 2203.14001:
# plain 69.06, KD 70.66, SimKD 71.05.
#   python tools/compare.py configs/experiments/compare/cifar100_r56_r20.py
_base_ = '../../_base_/cifar100_arms.py'

title = 'CIFAR-100: ResNet-56 to ResNet-20, 240 epochs'
teacher = dict(config='../../plain/cifar100_r56.py', options=_base_._captured)
arms = {
    'plain': dict(config='../../plain/cifar100_r20.py', options=_base_._captured),
    **{name: dict(config='../../sskd/cifar100_r56_r20.py', **recipe) for name, recipe in _base_._recipes.items()},
}
