# MobileFaceNet (arXiv 1804.07573) as InsightFace has it, twice as wide, with a 512-d embedding and an ArcFace classifier.
model = dict(
    type='mmsskd.FaceRecognizer',
    backbone=dict(type='mmsskd.MobileFaceNet', scale=2),
    neck=dict(type='mmsskd.FaceGDCNeck'),
    head=dict(type='mmsskd.MarginClsHead', num_classes=None, margin='arcface', s=64.0, m=0.5),
    embedding_in='backbone',
    test_cfg=dict(flip=True),
)
