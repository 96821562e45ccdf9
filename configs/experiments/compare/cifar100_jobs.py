# How many runs share a GPU best: a few epochs of one recipe, of as many seeds as there are runs at once; the scores mean nothing.
# `bash tests/gpu_check.sh jobs` sets the seeds.
_base_ = './cifar100_r56_r20.py'

title = 'CIFAR-100: ResNet-56 to ResNet-20, four epochs, several runs at once'
teacher = dict(options={'train_cfg.max_epochs': 1})
epochs = 4
val_interval = 4
arms = dict(
    _delete_=True,
    **{
        'plain': dict(config='../../plain/cifar100_r20.py', options=_base_._captured),
        'last stage alone': dict(
            config='../../sskd/cifar100_r56_r20.py', options=_base_._stages_alone['last stage alone']['options']
        ),
    },
)
