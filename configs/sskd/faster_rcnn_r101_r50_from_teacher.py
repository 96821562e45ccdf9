# Stage by stage on COCO: Faster R-CNN with ResNet-101 teaches ResNet-50, which starts from the weights of the teacher that it has
# a place for. 12 epochs in all. The recipe that closed 97 % of the gap on digits on photos (docs/results.md), at the same shares
# of the epochs; the backbone and the FPN follow the teacher's FPN, then everything learns from boxes too.
_base_ = './faster_rcnn_r101_r50.py'

model = dict(init_from_teacher='all')
default_hooks = dict(
    stage_schedule=dict(
        phases=[
            dict(train='stages', epochs=2),  # each stage by its own loss
            dict(name='fpn', train='stages', mimic='neck', epochs=4),
            dict(train='all', mimic='neck', task_loss=True, epochs=6),
        ]
    )
)
