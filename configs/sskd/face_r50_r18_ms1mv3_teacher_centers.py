# Stage by stage on MS1MV3, the classifier starts from the teacher's class centers. 20 epochs in all.
_base_ = './face_r50_r18_ms1mv3.py'

model = dict(init_from_teacher='head')
