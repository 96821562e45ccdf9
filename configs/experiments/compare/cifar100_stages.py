# What the first stages add to the last one alone, at 60 epochs and in equal seconds. The teacher is that of cifar100_r32x4_r8x4.py:
# a copy of the folder `teacher` of its work dir into that of this comparison is taken.
_base_ = './cifar100_r32x4_r8x4.py'

title = 'CIFAR-100: ResNet-32x4 to ResNet-8x4, 60 epochs: the last stage alone, or after the others'
epochs = 60
equal_seconds = 'last stage alone'
arms = dict(
    _delete_=True,
    **{
        'plain': dict(config='../../plain/cifar100_r8x4.py', options=_base_._captured),
        **{
            name: dict(config='../../sskd/cifar100_r32x4_r8x4.py', options=recipe['options'])
            for name, recipe in _base_._stages_alone.items()
        },
    },
)
