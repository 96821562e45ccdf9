# IJB-A in NIST's layout, a copy of your own. Put landmarks (README, Faces) into <root>/landmarks.csv; without them faces are cut by box.
ijba_root = '{{$IJBA_ROOT:data/IJB-A}}'
ijba_sets = dict(ijba=dict(reader='ijba', root=ijba_root))
