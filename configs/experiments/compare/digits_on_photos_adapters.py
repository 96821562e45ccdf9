# Faster R-CNN with ResNet-18 teaches one with half its width on digits on photos, at three eighths of the teacher's epochs.
# The data first: python tools/make_digits_on_photos.py
title = 'Digits on photos: Faster R-CNN, ResNet-18 to one of half its width'
metric = 'coco/bbox_mAP'
scale = 100.0
per_class = 'coco/{}_precision'
teacher = '../../plain/digits_on_photos_r18.py'
options = {'val_evaluator.classwise': True, 'test_evaluator.classwise': True}

_pair = '../../_base_/digits_on_photos_r18_r18_w16.py'


def _arm(*phases, **options):
    phases = {'default_hooks.stage_schedule.phases': list(phases)}
    return dict(config=_pair, options={'model.adapter_norm': False, **phases, **options})


_stages = ['layer1', 'layer2', 'layer3', 'layer4', 'neck']
_kept = [dict(name=name, train=_stages[: i + 1], mimic=name, epochs=1) for i, name in enumerate(_stages)]
_kept_losses = [
    *(dict(phase, mimic=phase['train']) for phase in _kept),
    dict(train='head', epochs=1),
]
_head, _norm = {'model.init_from_teacher': 'head'}, {'model.adapter_norm': True}
_own = dict(train='stages', epochs=1)  # each stage by its own loss
_fpn = dict(name='fpn', train='stages', mimic='neck')
arms = {
    'plain student': dict(config='../../plain/digits_on_photos_r18_w16.py'),
    'FPN beside the boxes': _arm(dict(train='all', mimic='neck', task_loss=True, epochs=6)),
    'all stages jointly': _arm(dict(train='all', mimic='stages', task_loss=True, epochs=6)),
    'SSKD, literal': _arm(*(dict(train=name, epochs=1) for name in _stages), dict(train='head', epochs=1)),
    'earlier stages kept, their losses dropped': _arm(*_kept, dict(train='head', epochs=1), **_head),
    'earlier stages and their losses kept': _arm(*_kept_losses, **_head),
    'the same, BN after the adapters': _arm(*_kept_losses, **_head, **_norm),
    'recommended, no boxes': _arm(_own, dict(_fpn, epochs=5), **_head),
    'recommended, no boxes, BN after the adapters': _arm(_own, dict(_fpn, epochs=5), **_head, **_norm),
    'recommended, then boxes': _arm(
        _own,
        dict(_fpn, epochs=2),
        dict(train='all', mimic='neck', task_loss=True, epochs=3),
        **_head,
    ),
}
plain = 'plain student'
epochs = 6
equal_seconds = 'recommended, then boxes'
seeds = [0, 1, 2]
val_interval = 6
