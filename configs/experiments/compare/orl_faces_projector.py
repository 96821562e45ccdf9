# The pair of orl_faces.py with a projector that stays in the student behind its embedding, and the head of the teacher.
# The data first:
#   python tools/face/make_orl_faces.py --train-people 20; python tools/face/make_ijba_shaped.py data/orl_faces/test data/orl_ijba
title = 'ORL faces: IResNet-18 to one of a quarter of its width, with a projector that stays'
metric = 'orl/tar@far=1e-2'
scale = 100.0
teacher = '../../plain/face_orl_r18.py'

_pair = '../../_base_/orl_faces_r18_r18.py'
_kept = {
    'model.projector': dict(type='mmsskd.BottleneckProjector', reduction=2),
    'model.init_from_teacher': 'head',
}


def _arm(*phases, **options):
    phases = {'default_hooks.stage_schedule.phases': list(phases)}
    return dict(config=_pair, options={'model.adapter_norm': False, **phases, **options})


_own = dict(train='stages', epochs=3)  # each stage by its own loss
_embedding = dict(name='embedding', train='stages', mimic='neck')
_labels = dict(train='all', mimic='neck', task_loss=True, epochs=5)
arms = {
    'plain student': dict(config='../../plain/face_orl_r18_student.py'),
    'embedding only, no labels': _arm(dict(_embedding, epochs=15)),
    'embedding only and projector, no labels': _arm(dict(_embedding, epochs=15), **_kept),
    'recommended, no labels': _arm(_own, dict(_embedding, epochs=12)),
    'recommended and projector, no labels': _arm(_own, dict(_embedding, epochs=12), **_kept),
    'recommended and projector, then labels': _arm(_own, dict(_embedding, epochs=7), _labels, **_kept),
}
plain = 'plain student'
epochs = 15
seeds = [0, 1, 2]
val_interval = 15
