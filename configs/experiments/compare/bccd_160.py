# A Faster R-CNN with ResNet-18 teaches one with half its width on real photos of blood cells, at a third of their size, from
# scratch: what 2 cores train in an hour of what bccd.py compares on a GPU. Where the data are: configs/_base_/datasets/bccd.py
title = 'BCCD at 216x160: Faster R-CNN with FPN, ResNet-18 to one of half its width, from scratch'
metric = 'coco/bbox_mAP'
scale = 100.0
per_class = 'coco/{}_precision'
teacher = '../../plain/bccd_160_r18.py'
options = {'val_evaluator.classwise': True, 'test_evaluator.classwise': True}

_pair = '../../_base_/bccd_160_r18_r18_w16.py'
_names = ['layer1', 'layer2', 'layer3', 'layer4', 'neck']
_kept = [dict(train=_names[: i + 1], epochs=3) for i in range(4)]


def _arm(*phases, **options):
    return dict(config=_pair, options={'default_hooks.stage_schedule.phases': list(phases), **options})


_head = {'model.init_from_teacher': 'head'}
_projector = {'model.projector': dict(type='mmsskd.BottleneckProjector', reduction=2)}
_cwd = {'model.mimic_loss': dict(type='mmsskd.CWDLoss')}
_foreground = {'model.mimic_loss': dict(type='mmsskd.ForegroundMimicLoss')}  # which looks at boxes
_own = dict(train='stages', epochs=7)  # each stage by its own loss
_fpn = dict(name='fpn', train='stages', mimic='neck')
arms = {
    'plain student': dict(config='../../plain/bccd_160_r18_w16.py'),
    'default': _arm(*_kept, dict(train='stages', epochs=3), dict(train='head', epochs=25)),
    "stages, then the FPN, the teacher's heads, no boxes": _arm(_own, dict(_fpn, epochs=33), **_head),
    'the same by CWD, no boxes': _arm(_own, dict(_fpn, epochs=33), **_head, **_cwd),
    'the same by the foreground loss': _arm(_own, dict(_fpn, epochs=33), **_head, **_foreground),
    'the same with a projector, no boxes': _arm(_own, dict(_fpn, epochs=33), **_head, **_projector),
    'FPN beside the boxes': _arm(dict(train='all', mimic='neck', task_loss=True, epochs=40)),
    'stages, then the FPN, then beside the boxes': _arm(
        _own, dict(_fpn, epochs=13), dict(train='all', mimic='neck', task_loss=True, epochs=20), **_head
    ),
}
plain = 'plain student'
epochs = 40
seeds = [0, 1, 2]
val_interval = 40
