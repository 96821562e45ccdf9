# Pairs of aligned 112x112 crops in InsightFace's .bin files: one folder, by default that of the training set. Ten folds each.
pairs_root = '{{$FACE_PAIRS_ROOT:data/faces_emore}}'
pair_sets = dict(
    lfw=dict(reader='bin', path=pairs_root + '/lfw.bin'),
    cfp_fp=dict(reader='bin', path=pairs_root + '/cfp_fp.bin'),
    agedb_30=dict(reader='bin', path=pairs_root + '/agedb_30.bin'),
)
