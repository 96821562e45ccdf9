# Stage by stage on COCO: Faster R-CNN with ResNet-101 teaches ResNet-50, with the FPN as a part of the head.
# Only the backbone follows the teacher; FPN and heads learn from ground truth. 12 epochs in all.
_base_ = './faster_rcnn_r101_r50.py'

model = dict(stages=['layer1', 'layer2', 'layer3', 'layer4'])
default_hooks = dict(stage_schedule=dict(head=dict(epochs=8)))
