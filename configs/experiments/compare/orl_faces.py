# IResNet-18 teaches one of a quarter of its width on twenty people of the ORL faces, tested on an IJB-A-shaped set of the other
# twenty, at a quarter of the teacher's epochs. The data first:
#   python tools/face/make_orl_faces.py --train-people 20; python tools/face/make_ijba_shaped.py data/orl_faces/test data/orl_ijba
title = 'ORL faces: IResNet-18 to one of a quarter of its width'
metric = 'orl/tar@far=1e-2'
scale = 100.0
teacher = '../../plain/face_orl_r18.py'

_pair = '../../_base_/orl_faces_r18_r18.py'


def _arm(*phases, **options):
    phases = {'default_hooks.stage_schedule.phases': list(phases)}
    return dict(config=_pair, options={'model.adapter_norm': False, **phases, **options})


_own = dict(train='stages', epochs=3)  # each stage by its own loss
_embedding = dict(name='embedding', train='stages', mimic='neck')
arms = {
    'plain student': dict(config='../../plain/face_orl_r18_student.py'),
    'embedding beside the labels': _arm(dict(train='all', mimic='neck', task_loss=True, epochs=15)),
    'all stages jointly': _arm(dict(train='all', mimic='stages', task_loss=True, epochs=15)),
    'SSKD, literal': _arm(
        *(dict(train=f'layer{i}', epochs=2) for i in (1, 2, 3, 4)),
        dict(train='neck', epochs=5),
        dict(train='head', epochs=2),
    ),
    'earlier stages kept, their losses dropped': _arm(
        dict(name='layer1', train='layer1', epochs=2),
        dict(name='layer2', train=['layer1', 'layer2'], mimic='layer2', epochs=2),
        dict(name='layer3', train=['layer1', 'layer2', 'layer3'], mimic='layer3', epochs=2),
        dict(name='layer4', train=['layer1', 'layer2', 'layer3', 'layer4'], mimic='layer4', epochs=2),
        dict(_embedding, epochs=5),
        dict(train='head', epochs=2),
    ),
    'earlier stages and their losses kept': _arm(
        dict(name='layer1', train='layer1', epochs=2),
        dict(name='layer2', train=['layer1', 'layer2'], epochs=2),
        dict(name='layer3', train=['layer1', 'layer2', 'layer3'], epochs=2),
        dict(name='layer4', train=['layer1', 'layer2', 'layer3', 'layer4'], epochs=2),
        dict(name='embedding', train='stages', epochs=5),
        dict(train='head', epochs=2),
    ),
    'embedding only, no labels': _arm(dict(_embedding, epochs=15)),
    'recommended, no labels': _arm(_own, dict(_embedding, epochs=12)),
    'recommended, no labels, BN after the adapters': _arm(
        _own, dict(_embedding, epochs=12), **{'model.adapter_norm': True}
    ),
    'recommended, then labels': _arm(
        _own, dict(_embedding, epochs=7), dict(train='all', mimic='neck', task_loss=True, epochs=5)
    ),
}
plain = 'plain student'
epochs = 15
equal_seconds = 'recommended, no labels'
seeds = [0, 1, 2]
val_interval = 15
