"""Files of protocols other than IJB-A, written as their makers write them."""

import pytest

from mmsskd.errors import ConfigError
from mmsskd.face.evaluation.protocols import read_templates


def write(path, *lines, end='\n'):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes((end.join(lines) + end).encode())
    return path


def write_ijbc(root, more='', values=''):
    """Faces of two people and a crowd; without MEDIA_ID and SIGHTING_ID unless ``more`` has them."""
    header = f'TEMPLATE_ID,SUBJECT_ID,FILENAME,FACE_X,FACE_Y,FACE_WIDTH,FACE_HEIGHT{more}'

    def rows(*faces):
        return [header, *(f'{face}{values}' for face in faces)]

    ann = ('1,7,img/1.jpg,1,2,30,40', '1,7,frames/9_01.png,5,5,20,20', '1,7,frames/9_02.png,5,6,20,20')
    bob, ann_again = '2,8,img/3.jpg,1,1,9,9', '3,7,img/3.jpg,20,1,9,9'
    tests = root / 'protocols'
    write(tests / 'test1/enroll_templates.csv', *rows(*ann, bob))
    write(tests / 'test1/verif_templates.csv', *rows(ann_again), end='\r\n')
    write(tests / 'test1/match.csv', '1,3', '2,3', end='\r\n')
    write(tests / 'test4/gallery_G1.csv', *rows(ann[0]))
    write(tests / 'test4/gallery_G2.csv', *rows(bob))
    write(tests / 'test4/probes.csv', *rows(ann_again, bob.replace('2,8', '4,8')))
    return root


def write_insightface(root, name='IJBC', galleries=('G1', 'G2')):
    meta, prefix = root / 'meta', name.lower()
    write(meta / f'{prefix}_face_tid_mid.txt', '1.jpg 5 50', '2.jpg 5 50', '3.jpg 9 51', '4.jpg 2 52')
    lines = [f'{i}.jpg ' + ' '.join(str(10 * i + j) for j in range(10)) + f' 0.{i}' for i in range(1, 5)]
    write(meta / f'{prefix}_name_5pts_score.txt', *lines)
    write(meta / f'{prefix}_template_pair_label.txt', '5 9 1', '5 2 0', '9 2 0')
    write(meta / f'{prefix}_1N_gallery_{galleries[0]}.csv', 'TEMPLATE_ID,SUBJECT_ID,FILENAME', '5,70,a', '5,70,b')
    write(meta / f'{prefix}_1N_gallery_{galleries[1]}.csv', 'TEMPLATE_ID,SUBJECT_ID', '2,71')
    write(meta / f'{prefix}_1N_probe_mixed.csv', 'TEMPLATE_ID,SUBJECT_ID', '9,70')
    write(root / 'loose_crop/1.jpg', 'no image')
    return root


POINTS = ','.join(f'x{point},y{point}' for point in range(1, 6))


def write_templates(root):
    """The example of the docstring."""
    lines = [line.strip() for line in read_templates.__doc__.splitlines()]
    start = next(place for place, line in enumerate(lines) if line.startswith('TEMPLATE_ID,'))
    write(root / 'own.csv', *lines[start : start + 6])
    write(root / 'pairs.csv', 't1,t2', 't1,t3')
    write(root / 'gallery.csv', 'SUBJECT_ID,TEMPLATE_ID', 'ann,t1')
    write(root / 'probes.csv', 'template_id', 't3', 't2', 't3')
    return root


def write_lfw(path, head='2\t2', folds=2, separator='\t'):
    lines = [head]
    for fold in range(folds):
        same = [(f'Ann_{fold}', 1, 2), (f'Bob_{fold}', 3, 10)]
        other = [(f'Ann_{fold}', 1, f'Bob_{fold}', 3), (f'Ann_{fold}', 2, 'Eve', 1)]
        lines += [separator.join(map(str, pair)) for pair in same + other]
    return write(path, *lines)


def wrong(path, old, new, message, read, *args, **kwargs):
    """The reader's error once ``old`` is ``new`` in a file; the file is put back."""
    before = path.read_bytes()
    assert old in before
    path.write_bytes(before.replace(old, new, 1))
    with pytest.raises(ConfigError, match=message):
        read(*args, **kwargs)
    path.write_bytes(before)
