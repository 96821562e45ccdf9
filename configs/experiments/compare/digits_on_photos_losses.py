# The pair of digits_on_photos_adapters.py: losses by which backbone and FPN follow the teacher's FPN, with the teacher's heads. The
# foreground loss looks at boxes, the others at no label. As the only loss of Adam its weight does nothing.
# The data first: python tools/make_digits_on_photos.py
title = 'Digits on photos: losses between FPNs, ResNet-18 to one of half its width'
metric = 'coco/bbox_mAP'
scale = 100.0
teacher = '../../plain/digits_on_photos_r18.py'


def _arm(*phases, seeds=3, **loss):
    return dict(
        config='../../_base_/digits_on_photos_r18_r18_w16.py',
        options={
            'model.adapter_norm': False,
            'model.init_from_teacher': 'head',
            'model.mimic_loss': dict(loss),
            'default_hooks.stage_schedule.phases': list(phases),
        },
        seeds=seeds,
    )


_own = dict(train='stages', epochs=1)  # each stage by its own loss
_alone = dict(name='fpn', train='stages', mimic='neck', epochs=6)
_then = dict(_alone, epochs=5)
_boxes = dict(train='all', mimic='neck', task_loss=True, epochs=3)
arms = {
    'plain student': dict(config='../../plain/digits_on_photos_r18_w16.py'),
    'L2': _arm(_alone, type='mmsskd.FeatureMimicLoss'),
    'foreground': _arm(_alone, type='mmsskd.ForegroundMimicLoss'),
    'foreground alone': _arm(_alone, type='mmsskd.ForegroundMimicLoss', background=0),
    'CWD': _arm(_alone, type='mmsskd.CWDLoss'),
    'PKD': _arm(_alone, type='mmsskd.PKDLoss', seeds=1),
    'MGD': _arm(_alone, type='mmsskd.MGDLoss', seeds=1),
    'all stages, then L2': _arm(_own, _then, type='mmsskd.FeatureMimicLoss'),
    'all stages, then foreground': _arm(_own, _then, type='mmsskd.ForegroundMimicLoss'),
    'all stages, then CWD': _arm(_own, _then, type='mmsskd.CWDLoss'),
    'all stages, then L2, then boxes': _arm(_own, dict(_alone, epochs=2), _boxes, type='mmsskd.FeatureMimicLoss'),
    'all stages, then foreground, then boxes': _arm(
        _own, dict(_alone, epochs=2), _boxes, type='mmsskd.ForegroundMimicLoss'
    ),
    'foreground beside the boxes': _arm(dict(_boxes, epochs=6), type='mmsskd.ForegroundMimicLoss'),
}
plain = 'plain student'
epochs = 6
seeds = [0, 1, 2]
val_interval = 6
