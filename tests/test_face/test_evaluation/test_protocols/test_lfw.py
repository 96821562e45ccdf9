"""Pairs of the LFW kind."""

import numpy as np
import pytest
from protocol_helpers import POINTS, write, write_lfw, wrong

from mmsskd.errors import ConfigError
from mmsskd.face.evaluation.protocols import (
    file_faults,
    read_lfw_pairs,
)


@pytest.mark.parametrize('separator', ['\t', ' '])
def test_pairs_of_lfw(tmp_path, separator):
    path = write_lfw(tmp_path / 'pairs.txt', '2 2' if separator == ' ' else '2\t2', separator=separator)
    write(tmp_path / 'lfw/Ann_0/Ann_0_0001.png', '')
    protocol = read_lfw_pairs(path, tmp_path / 'lfw')
    assert protocol.faces.keys.tolist()[:4] == [f'Ann_0/Ann_0_000{i}.jpg' for i in (1, 2)] + [
        'Bob_0/Bob_0_0003.jpg', 'Bob_0/Bob_0_0010.jpg',
    ]  # fmt: skip
    assert protocol.faces.files[0] == 'Ann_0/Ann_0_0001.png' and list(file_faults(protocol)) == list(range(1, 9))
    assert len(protocol.faces) == 9 and protocol.pairs[:4].tolist() == [[0, 1], [2, 3], [0, 2], [1, 4]]
    assert protocol.genuine.tolist() == [True, True, False, False] * 2
    assert protocol.folds.tolist() == [0] * 4 + [1] * 4 and protocol.root == str(tmp_path / 'lfw')


def test_pairs_of_one_fold_with_blanks_in_names(tmp_path):
    path = write(tmp_path / 'pairs.txt', '1', 'Ann Lee\t1\t2', 'Ann Lee\t1\tBob\t2')
    protocol = read_lfw_pairs(path, tmp_path, suffix='.png')
    assert protocol.faces.keys[0] == 'Ann Lee/Ann Lee_0001.png' and protocol.folds.tolist() == [0, 0]
    marks = write(tmp_path / 'marks.csv', f'KEY,{POINTS}', 'Bob/Bob_0002.png,' + ','.join(map(str, range(10))))
    faces = read_lfw_pairs(path, tmp_path, suffix='.png', landmarks=marks).faces
    assert faces.landmarks[2, 1].tolist() == [2, 3] and np.isnan(faces.landmarks[:2]).all()


def test_labelled_pairs_are_dealt_out_to_ten_folds(tmp_path):
    """All genuine pairs come first in CALFW and CPLFW: contiguous folds would have one class each."""
    lines = [f'{kind}_{pair}_{side}.jpg\t{label}' for kind, label in (('same', 1), ('other', 0)) for pair in range(30)
             for side in 'ab']  # fmt: skip
    protocol = read_lfw_pairs(write(tmp_path / 'pairs.txt', *lines), tmp_path, 'calfw')
    assert protocol.folds.tolist() == np.repeat(np.arange(10), 6).tolist() and protocol.name == 'calfw'
    assert protocol.genuine.reshape(10, 6).tolist() == [[True] * 3 + [False] * 3] * 10
    names = protocol.faces.keys[protocol.pairs]
    assert names[6].tolist() == ['same_3_a.jpg', 'same_3_b.jpg'] and len(protocol.faces) == 120
    assert all(a[:-5] == b[:-5] and a.startswith('same') == same for (a, b), same in zip(names, protocol.genuine))
    write(tmp_path / 'pairs.txt', *lines[:40])
    with pytest.raises(ConfigError, match='20 genuine and 0 other pairs; ten folds need ten of each'):
        read_lfw_pairs(tmp_path / 'pairs.txt', tmp_path)


def test_mistakes_in_pairs_are_named(tmp_path):
    path = write_lfw(tmp_path / 'pairs.txt')
    read = (read_lfw_pairs, path, tmp_path)
    wrong(path, b'2\t2', b'10\t300', 'pairs.txt: 8 pairs, but row 1 says 10 folds of 300 .*: 6000', *read)
    wrong(path, b'2\t2', b'1\t2\t2', "row 1: found '1 2 2'; the first row is the folds", *read)
    wrong(path, b'2\t2', b'0\t2', "row 1: found '0 2'", *read)
    wrong(path, b'2\t2', '\xb2\t2'.encode(), "either the first row is .* .it is '\xb2 2'., or each row", *read)
    wrong(path, b'2\t2', b'2\t' + b'2' * 5000, 'row 1: found .2 2*... .5,002 characters.', *read)
    wrong(path, b'Bob_0\t3', 'Bob_0\t\xb3'.encode(), "row 3: found 'Bob_0 \xb3 10'; here, by the first row", *read)
    wrong(path, b'Bob_0\t3', b'B' * 30_000_000 + b'\tx', 'row 3: found .B{80}... .30,000,005 characters', *read)
    wrong(path, b'Bob_0\t3', b'../x\t3', "pairs.txt, row 3: found the image file '../x/../x_0003.jpg'", *read)
    wrong(
        path, b'Bob_0\t3\t10', b'Bob_0\t3', r"row 3: found 'Bob_0 3'; here, by the first row, belongs name i j", *read
    )
    wrong(path, b'Bob_0\t3\n', b'Bob_0\tx\n', r'row 4: .*belongs name1 i name2 j \(two persons\)', *read)
    write(path, 'a.jpg 1', 'b.jpg 0')
    with pytest.raises(ConfigError, match='rows 1 and 2: a pair with two labels'):
        read_lfw_pairs(path, tmp_path)
    wrong(path, b'b.jpg 0', b'b.jpg 1\nc.jpg 1', '3 rows; each pair is two rows', *read)
    wrong(path, b'b.jpg 0', b'b.jpg yes', "row 2: found 'b.jpg yes'; either the first row", *read)
    path.write_bytes(b'\n')
    with pytest.raises(ConfigError, match='no line in it'):
        read_lfw_pairs(path, tmp_path)
    with pytest.raises(ConfigError, match="no file .*pair.txt.*did you mean 'pairs.txt'"):
        read_lfw_pairs(tmp_path / 'pair.txt', tmp_path)
