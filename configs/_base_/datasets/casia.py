# CASIA-WebFace: 490,623 aligned faces of 10,572 people, 112x112, in InsightFace's RecordIO.
# For research only, by its license.
_base_ = './face_records.py'

data_preprocessor = dict(num_classes=10572)
train_dataloader = dict(dataset=dict(data_root='{{$CASIA_ROOT:data/faces_webface_112x112}}'))
