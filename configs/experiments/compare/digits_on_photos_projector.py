# The pair of digits_on_photos_adapters.py with a projector that stays in the student between FPN and heads, and the heads of the
# teacher. The data first: python tools/make_digits_on_photos.py
title = 'Digits on photos: Faster R-CNN, ResNet-18 to one of half its width, with a projector that stays'
metric = 'coco/bbox_mAP'
scale = 100.0
teacher = '../../plain/digits_on_photos_r18.py'

_pair = '../../_base_/digits_on_photos_r18_r18_w16.py'
_projector = {'model.projector': dict(type='mmsskd.BottleneckProjector', reduction=2)}


def _arm(*phases, **options):
    phases = {'default_hooks.stage_schedule.phases': list(phases)}
    return dict(
        config=_pair, options={'model.adapter_norm': False, 'model.init_from_teacher': 'head', **phases, **options}
    )


_own = dict(train='stages', epochs=1)  # each stage by its own loss
_fpn = dict(name='fpn', train='stages', mimic='neck')
_boxes = dict(train='all', mimic='neck', task_loss=True, epochs=3)
arms = {
    'plain student': dict(config='../../plain/digits_on_photos_r18_w16.py'),
    'recommended, no boxes': _arm(_own, dict(_fpn, epochs=5)),
    'recommended and projector, no boxes': _arm(_own, dict(_fpn, epochs=5), **_projector),
    'FPN alone, no boxes': _arm(dict(_fpn, epochs=6)),
    'FPN alone and projector, no boxes': _arm(dict(_fpn, epochs=6), **_projector),
    'recommended, then boxes': dict(_arm(_own, dict(_fpn, epochs=2), _boxes), seeds=3),
    'recommended and projector, then boxes': dict(_arm(_own, dict(_fpn, epochs=2), _boxes, **_projector), seeds=3),
}
plain = 'plain student'
epochs = 6
seeds = [0, 1, 2, 3, 4, 5]
val_interval = 6
