# Stage by stage on COCO with one stage, backbone and FPN together, and one phase: PKD (https://arxiv.org/abs/2207.02039).
# Faster R-CNN with ResNet-101 teaches Faster R-CNN with ResNet-50: its FPN follows the teacher's while everything learns from boxes
# from the first step on. 12 epochs in all, as mmdet's 1x.
_base_ = './faster_rcnn_r101_r50.py'

model = dict(
    # as it is, with the stem and the first stage of ImageNet kept
    student=dict(_delete_=True, cfg_path='mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py'),
    stages=['neck'],
    mimic_loss=dict(type='mmsskd.PKDLoss', loss_weight=30),  # 6 a level as in the paper, whose four are five here
)
default_hooks = dict(stage_schedule=dict(phases=[dict(train='all', mimic='neck', task_loss=True, epochs=12)]))
