# IJB-B and IJB-C in InsightFace's text form (loose_crop/ and meta/), copies of your own: <root>/IJBB and <root>/IJBC.
ijb_root = '{{$IJB_ROOT:data/IJB}}'
ijb_sets = dict(
    ijbb=dict(reader='insightface', root=ijb_root + '/IJBB', name='IJBB'),
    ijbc=dict(reader='insightface', root=ijb_root + '/IJBC', name='IJBC'),
)
