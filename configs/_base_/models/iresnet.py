# InsightFace's IResNet with a 512-d embedding and an ArcFace classifier (arXiv 1801.07698); depth and classes are the config's.
model = dict(
    type='mmsskd.FaceRecognizer',
    backbone=dict(type='mmsskd.IResNet', depth=50),
    neck=dict(type='mmsskd.FaceEmbedNeck'),
    head=dict(type='mmsskd.MarginClsHead', num_classes=None, margin='arcface', s=64.0, m=0.5),
    # 'backbone': the embedding is one more stage that mimics; 'head': it learns with the classifier
    embedding_in='backbone',
    test_cfg=dict(flip=True),
)
