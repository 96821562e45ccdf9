# IResNet-50 with ArcFace on CASIA-WebFace, trained plainly. IJB-A is in the test set: IJBA_ROOT names its folder.
_base_ = [
    '../_base_/models/iresnet.py',
    '../_base_/datasets/casia.py',
    '../_base_/datasets/ijba.py',
    '../_base_/schedules/face_20e.py',
    '../_base_/face_runtime.py',
]

model = dict(backbone=dict(depth=50), head=dict(num_classes=10572))
test_dataloader = dict(dataset=dict(sets={{_base_.ijba_sets}}))
