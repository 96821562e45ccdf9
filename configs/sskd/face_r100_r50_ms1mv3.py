# Stage by stage on MS1MV3: IResNet-100 teaches IResNet-50. 20 epochs in all, as many as plain training.
# The teacher first: python tools/train.py configs/plain/face_r100_ms1mv3.py
_base_ = ['../_base_/datasets/ms1mv3.py', '../_base_/face_pair.py']

model = dict(
    teacher=dict(cfg_path='mmsskd::plain/face_r100_ms1mv3.py'),
    teacher_checkpoint='work_dirs/face_r100_ms1mv3/epoch_20.pth',
    student=dict(cfg_path='mmsskd::plain/face_r50_ms1mv3.py'),
)
test_dataloader = dict(dataset=dict(sets={{_base_.ijba_sets}}))
