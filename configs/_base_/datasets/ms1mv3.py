# MS1MV3 (ms1m-retinaface-t1): 5,179,510 aligned faces of 93,431 people, 112x112, in InsightFace's RecordIO.
# For research only, by its license.
_base_ = './face_records.py'

data_preprocessor = dict(num_classes=93431)
train_dataloader = dict(dataset=dict(data_root='{{$MS1MV3_ROOT:data/ms1m-retinaface-t1}}'))
