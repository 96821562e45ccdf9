# Stage by stage on COCO: Faster R-CNN with ResNet-101 teaches Faster R-CNN with ResNet-50.
# The backbone, then the FPN, then the heads; 12 epochs in all, as mmdet's 1x.
_base_ = ['mmdet::_base_/datasets/coco_detection.py', '../_base_/sskd_detection_1x.py']

model = dict(
    type='mmsskd.StagewiseDistiller',
    _scope_='mmdet',
    teacher=dict(cfg_path='mmdet::faster_rcnn/faster-rcnn_r101_fpn_1x_coco.py'),
    teacher_checkpoint=(
        'https://download.openmmlab.com/mmdetection/v2.0/faster_rcnn/'
        'faster_rcnn_r101_fpn_1x_coco/faster_rcnn_r101_fpn_1x_coco_20200130-f513f705.pth'
    ),
    # the whole backbone learns: mmdet's defaults keep its stem, first stage and BN statistics as they are
    student=dict(
        cfg_path='mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py', backbone=dict(frozen_stages=-1, norm_eval=False)
    ),
    stages=['layer1', 'layer2', 'layer3', 'layer4', 'neck'],
)
