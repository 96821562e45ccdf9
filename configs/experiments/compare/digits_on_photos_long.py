# The pair of digits_on_photos.py with as many epochs for the student as for the teacher: what is left when plain training has the
# time it needs. Phases keep their shares. The data first: python tools/make_digits_on_photos.py
title = (
    'Digits on photos: Faster R-CNN, ResNet-34 to ResNet-18 of the same widths, students with the epochs of the teacher'
)
metric = 'coco/bbox_mAP'
scale = 100.0
per_class = 'coco/{}_precision'
teacher = '../../plain/digits_on_photos_r34_w16.py'
options = {'val_evaluator.classwise': True, 'test_evaluator.classwise': True}

_pair = '../../_base_/digits_on_photos_r34_r18_w16.py'


def _arm(*phases, **options):
    return dict(config=_pair, options={'default_hooks.stage_schedule.phases': list(phases), **options})


_stages = ['layer1', 'layer2', 'layer3', 'layer4', 'neck']
_kept = [dict(train=_stages[: i + 1], epochs=1) for i in range(5)]
_from_teacher = {'model.init_from_teacher': 'all'}
_own = dict(train='stages', epochs=1)  # each stage by its own loss
_fpn = dict(name='fpn', train='stages', mimic='neck')
arms = {
    'plain student': dict(config='../../plain/digits_on_photos_r18_w16.py'),
    # what the arm that starts stage by stage does without a teacher: a third of the epochs, then the rates anew
    'boxes for a third of the epochs, then boxes anew': _arm(dict(train='all', epochs=5), dict(train='all', epochs=11)),
    'plain, from the teacher’s weights': _arm(dict(train='all', epochs=16), **_from_teacher),
    'earlier stages and their losses kept, then the head': _arm(
        *(dict(phase, epochs=2) for phase in _kept), dict(train='head', epochs=6)
    ),
    'the same for a third of the epochs, then boxes': _arm(*_kept, dict(train='all', epochs=11)),
    'recommended, no boxes': _arm(_own, dict(_fpn, epochs=15), **_from_teacher),
    'recommended, then boxes': _arm(
        _own, dict(_fpn, epochs=7), dict(train='all', mimic='neck', task_loss=True, epochs=8), **_from_teacher
    ),
}
plain = 'plain student'
epochs = 16
seeds = [0, 1, 2]
val_interval = 6
