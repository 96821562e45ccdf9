# MS1MV2 (faces_emore): 5,822,653 aligned faces of 85,742 people, 112x112, in InsightFace's RecordIO.
# For research only, by its license.
_base_ = './face_records.py'

data_preprocessor = dict(num_classes=85742)
train_dataloader = dict(dataset=dict(data_root='{{$MS1MV2_ROOT:data/faces_emore}}'))
