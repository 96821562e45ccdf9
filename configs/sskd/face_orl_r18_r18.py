# Stage by stage on the ORL faces: an IResNet-18 teaches one of a quarter of its width. 15 epochs in all, as many as plain training,
# and no name is used: first each stage follows by its own loss, then everything learns by the embedding (docs/results.md).
# The data (_base_/datasets/orl_faces.py) and the teacher first: python tools/train.py configs/plain/face_orl_r18.py
_base_ = '../_base_/orl_faces_r18_r18.py'

model = dict(adapter_norm=False)  # as measured; with it there is no difference
default_hooks = dict(
    checkpoint=dict(interval=15),
    stage_schedule=dict(
        phases=[
            dict(train='stages', epochs=3),
            dict(name='embedding', train='stages', mimic='neck', epochs=12),
        ]
    ),
)
train_cfg = dict(max_epochs=15, val_interval=5)
