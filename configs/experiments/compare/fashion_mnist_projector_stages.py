# What the first stages add to the last one, through a projector that stays in the student: the pair of fashion_mnist_projector.py
# whose student is half as wide. Nothing was searched.
_base_ = './fashion_mnist_projector.py'

title = 'Fashion-MNIST, 2,000 images: the first stages beside the last one, through a projector that stays'
seeds = [0, 1, 2, 3, 4, 5]
_half = _base_._half
_student = {
    **_base_._narrow,
    'default_hooks.stage_schedule.transfer': dict(optim_wrapper=dict(optimizer=dict(type='Adam', lr=0.02))),
    **_base_._kept,
}
_all = ['layer1', 'layer2', 'layer3']


def _arm(*phases, **options):
    options = {'default_hooks.stage_schedule.phases': list(phases), **_student, **options}
    return dict(config='../../_base_/fashion_mnist_10k_r20_r14.py', options=options)


_tenth = dict(type='mmsskd.FeatureMimicLoss', loss_weight=0.1)
arms = dict(
    _delete_=True,
    **{
        'plain student': dict(
            config='../../plain/fashion_mnist_10k_r14x05.py',
            options={
                **_half,
                'model.backbone.width': 0.25,
                'model.backbone.stem_channels': 4,
                'model.head.in_channels': 16,
            },
        ),
        'last stage alone': _arm(dict(train='stages', mimic='layer3', epochs=5)),
        'stage by stage, then the last': _arm(
            dict(train='layer1', epochs=1),
            dict(train=['layer1', 'layer2'], mimic='layer2', epochs=1),
            dict(train='stages', mimic='layer3', epochs=3),
        ),
        'all stages, then the last': _arm(
            dict(train='stages', mimic=_all, epochs=1), dict(train='stages', mimic='layer3', epochs=4)
        ),
        'all stages': dict(_arm(dict(train='stages', mimic=_all, epochs=5)), seeds=3),
        'all stages, a tenth of the first two': _arm(
            dict(train='stages', mimic=_all, epochs=5), **{'model.mimic_loss': dict(layer1=_tenth, layer2=_tenth)}
        ),
    },
)
