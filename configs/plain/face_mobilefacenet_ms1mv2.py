# MobileFaceNet with ArcFace on MS1MV2, trained plainly. IJB-A is in the test set: IJBA_ROOT names its folder.
_base_ = [
    '../_base_/models/mobilefacenet.py',
    '../_base_/datasets/ms1mv2.py',
    '../_base_/datasets/ijba.py',
    '../_base_/schedules/face_20e.py',
    '../_base_/face_runtime.py',
]

model = dict(head=dict(num_classes=85742))
test_dataloader = dict(dataset=dict(sets={{_base_.ijba_sets}}))
