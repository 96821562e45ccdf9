# Stage by stage on MS1MV3, the other reading: the embedding is not mimicked but learns with the classifier. 20 epochs in all.
_base_ = './face_r50_r18_ms1mv3.py'

model = dict(
    teacher=dict(embedding_in='head'),
    student=dict(embedding_in='head'),
    mimic_loss=None,
)
default_hooks = dict(stage_schedule=dict(transfer=dict(epochs=3), head=dict(epochs=8)))
