# Stage by stage on MS1MV2: IResNet-50 teaches MobileFaceNet. 20 epochs in all, as many as plain training.
# The teacher first: python tools/train.py configs/plain/face_r50_ms1mv2.py
_base_ = ['../_base_/datasets/ms1mv2.py', '../_base_/face_pair.py']

model = dict(
    teacher=dict(cfg_path='mmsskd::plain/face_r50_ms1mv2.py'),
    teacher_checkpoint='work_dirs/face_r50_ms1mv2/epoch_20.pth',
    student=dict(cfg_path='mmsskd::plain/face_mobilefacenet_ms1mv2.py'),
)
test_dataloader = dict(dataset=dict(sets={{_base_.ijba_sets}}))
