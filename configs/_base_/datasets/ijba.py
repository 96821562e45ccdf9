# IJB-A in NIST's layout, a copy of your own. Landmarks go into <root>/landmarks.csv (docs/faces.md); faces without are cut by box.
ijba_root = '{{$IJBA_ROOT:data/IJB-A}}'
ijba_sets = dict(ijba=dict(reader='ijba', root=ijba_root))
