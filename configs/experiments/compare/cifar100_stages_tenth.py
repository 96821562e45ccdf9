# As cifar100_stages.py, with a tenth of the images for the students, and ten times the epochs: as many iterations. The teacher has
# seen all images, and is that of cifar100_r32x4_r8x4.py.
_base_ = './cifar100_r32x4_r8x4.py'

title = 'CIFAR-100: ResNet-32x4 to ResNet-8x4, 5,000 images: the last stage alone, or after the others'
epochs = 600
equal_seconds = 'last stage alone'
_tenth = {'train_dataloader.dataset.indices': 5000}
arms = dict(
    _delete_=True,
    **{
        'plain': dict(config='../../plain/cifar100_r8x4.py', options={**_base_._captured, **_tenth}),
        **{
            name: dict(config='../../sskd/cifar100_r32x4_r8x4.py', options={**recipe['options'], **_tenth})
            for name, recipe in _base_._stages_alone.items()
        },
    },
)
