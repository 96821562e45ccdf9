# Stage by stage on digits on photos: Faster R-CNN with ResNet-18 teaches one with half its width, which needs adapters. 6 epochs in
# all, as many as plain training. The recommended recipe for such a pair (docs/results.md): backbone and FPN follow the teacher's
# FPN by a loss that looks at boxes only to weigh places, and the heads are the teacher's.
# The data and the teacher first: python tools/make_digits_on_photos.py; python tools/train.py configs/plain/digits_on_photos_r18.py
_base_ = '../_base_/digits_on_photos_r18_r18_w16.py'

model = dict(
    init_from_teacher='head',
    adapter_norm=False,  # as measured; with it there is no difference
    mimic_loss=dict(type='mmsskd.ForegroundMimicLoss'),  # without boxes leave it out: L2
)
default_hooks = dict(
    stage_schedule=dict(
        phases=[
            dict(train='stages', epochs=1),  # each stage by its own loss
            dict(name='fpn', train='stages', mimic='neck', epochs=5),
        ]
    )
)
train_cfg = dict(max_epochs=6, val_interval=3)
