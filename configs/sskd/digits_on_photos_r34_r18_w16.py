# Stage by stage on digits on photos: Faster R-CNN with ResNet-34 teaches one with ResNet-18 of the same widths, as ResNet-101
# teaches ResNet-50 on COCO. 6 epochs in all, as many as plain training. The recommended recipe for such a pair (docs/results.md):
# the student starts from the teacher's weights, backbone and FPN follow the teacher's FPN, then everything learns from boxes too.
# The data and the teacher first: python tools/make_digits_on_photos.py
#   python tools/train.py configs/plain/digits_on_photos_r34_w16.py
_base_ = '../_base_/digits_on_photos_r34_r18_w16.py'

model = dict(init_from_teacher='all')
default_hooks = dict(
    stage_schedule=dict(
        phases=[
            dict(train='stages', epochs=1),  # each stage by its own loss
            dict(name='fpn', train='stages', mimic='neck', epochs=2),
            dict(train='all', mimic='neck', task_loss=True, epochs=3),
        ]
    )
)
train_cfg = dict(max_epochs=6, val_interval=3)
