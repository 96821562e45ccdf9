# Faster R-CNN with ResNet-50 teaches one with ResNet-18 on real photos of blood cells, from scratch; teacher and plain student are
# trained for as long. Where the data are: configs/_base_/datasets/bccd.py
title = 'BCCD: Faster R-CNN with FPN, ResNet-50 to ResNet-18, from scratch'
metric = 'coco/bbox_mAP'
scale = 100.0
per_class = 'coco/{}_precision'
teacher = '../../plain/bccd_r50.py'
options = {'val_evaluator.classwise': True, 'test_evaluator.classwise': True}

_hook = 'default_hooks.stage_schedule'
_names = ['layer1', 'layer2', 'layer3', 'layer4', 'neck']
_kept = [dict(train=_names[: i + 1], epochs=8) for i in range(4)]
_projector = {
    'model.projector': dict(type='mmsskd.BottleneckProjector', reduction=2),
    'model.init_from_teacher': 'head',
}


def _arm(*phases, **options):
    return dict(config='../../sskd/bccd_r50_r18.py', options={f'{_hook}.phases': list(phases), **options})


arms = {
    'plain student': dict(config='../../plain/bccd_r18.py'),
    'default': _arm(*_kept, dict(train='stages', epochs=8), dict(train='head', epochs=60)),
    'FPN with projector and the heads of the teacher, no boxes': _arm(
        *_kept, dict(train='stages', mimic='neck', epochs=68), **_projector
    ),
    'FPN beside the boxes': _arm(dict(train='all', mimic='neck', task_loss=True, epochs=100)),
    'then_all': dict(config='../../sskd/bccd_r50_r18.py'),
}
plain = 'plain student'
epochs = 100
equal_seconds = 'plain student'
seeds = [0, 1, 2]
val_interval = 100
