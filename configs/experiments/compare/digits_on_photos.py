# Faster R-CNN with ResNet-34 teaches one with ResNet-18 of the same widths on digits on photos, at three eighths of the teacher's
# epochs. The data first: python tools/make_digits_on_photos.py
title = 'Digits on photos: Faster R-CNN, ResNet-34 to ResNet-18 of the same widths'
metric = 'coco/bbox_mAP'
scale = 100.0
per_class = 'coco/{}_precision'
teacher = '../../plain/digits_on_photos_r34_w16.py'
options = {'val_evaluator.classwise': True, 'test_evaluator.classwise': True}

_pair = '../../_base_/digits_on_photos_r34_r18_w16.py'


def _arm(*phases, **options):
    return dict(config=_pair, options={'default_hooks.stage_schedule.phases': list(phases), **options})


_stages = ['layer1', 'layer2', 'layer3', 'layer4', 'neck']
_kept = [dict(name=name, train=_stages[: i + 1], mimic=name, epochs=1) for i, name in enumerate(_stages)]
_from_teacher = {'model.init_from_teacher': 'all'}
_own = dict(train='stages', epochs=1)  # each stage by its own loss
_fpn = dict(name='fpn', train='stages', mimic='neck')
arms = {
    'plain student': dict(config='../../plain/digits_on_photos_r18_w16.py'),
    'plain, from the teacher’s weights': _arm(dict(train='all', epochs=6), **_from_teacher),
    'FPN beside the boxes': _arm(dict(train='all', mimic='neck', task_loss=True, epochs=6)),
    'SSKD, literal': _arm(*(dict(train=name, epochs=1) for name in _stages), dict(train='head', epochs=1)),
    'earlier stages kept, their losses dropped': _arm(*_kept, dict(train='head', epochs=1)),
    'earlier stages and their losses kept': _arm(
        *(dict(phase, mimic=phase['train']) for phase in _kept), dict(train='head', epochs=1)
    ),
    'recommended, no boxes': _arm(_own, dict(_fpn, epochs=5), **_from_teacher),
    'recommended, then boxes': _arm(
        _own,
        dict(_fpn, epochs=2),
        dict(train='all', mimic='neck', task_loss=True, epochs=3),
        **_from_teacher,
    ),
}
plain = 'plain student'
epochs = 6
equal_seconds = 'recommended, then boxes'
seeds = [0, 1, 2]
val_interval = 6
