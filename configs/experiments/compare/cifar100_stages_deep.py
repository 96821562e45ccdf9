# As cifar100_stages.py, for a deeper pair; the teacher is that of cifar100_r110_r32.py.
_base_ = './cifar100_r110_r32.py'

title = 'CIFAR-100: ResNet-110 to ResNet-32, 60 epochs: the last stage alone, or after the others'
epochs = 60
equal_seconds = 'last stage alone'
arms = dict(
    _delete_=True,
    **{
        'plain': dict(config='../../plain/cifar100_r32.py', options=_base_._captured),
        **{
            name: dict(config='../../sskd/cifar100_r110_r32.py', options=recipe['options'])
            for name, recipe in _base_._stages_alone.items()
        },
    },
)
