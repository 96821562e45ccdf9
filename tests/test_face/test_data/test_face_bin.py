"""Pairs in .bin files: every way in which such pickles are written, and none of what others may put into one."""

import pickle
import struct
import subprocess
import sys

import numpy as np
import pytest
from record_helpers import jpeg

from mmsskd.errors import ConfigError
from mmsskd.face.data import face_bin
from mmsskd.face.data.face_bin import pair_protocol_of_bin, read_bin

IMAGES = [jpeg(10 * number, suffix='.png' if number == 5 else '.jpg') for number in range(8)]
SAME = [True, False, True, False]


def write(path, content, protocol=None):
    path.write_bytes(pickle.dumps(content, protocol))
    return path


def check(path):
    images, same = read_bin(path)
    assert images == IMAGES and all(type(image) is bytes for image in images)
    assert same.dtype == bool and same.tolist() == SAME


@pytest.mark.parametrize('protocol', range(6))
@pytest.mark.parametrize(
    'content',
    [
        (IMAGES, SAME),
        [tuple(IMAGES), [int(flag) for flag in SAME]],
        (IMAGES, np.array(SAME)),
        (IMAGES, [np.bool_(flag) for flag in SAME]),
        ([np.frombuffer(image, np.uint8) for image in IMAGES], np.array(SAME).astype(np.int64)),
        ([bytearray(image) for image in IMAGES], np.array(SAME)[:, None]),
        (IMAGES, np.array(SAME, np.float32)[:, None]),
        (IMAGES, [float(flag) for flag in SAME]),
        (IMAGES, [[flag] for flag in SAME]),
        (IMAGES, [np.array([flag]) for flag in SAME]),
        (IMAGES, [np.float64(flag) for flag in SAME]),
    ],
)
def test_files_of_python_3_are_read(tmp_path, protocol, content):
    check(write(tmp_path / 'lfw.bin', content, protocol))


@pytest.mark.parametrize('protocol', [0, 1, 2])
def test_files_of_python_2_are_read(tmp_path, protocol):
    """Python 2 writes a byte string as such; spelt out here as Python 3 has no opcode for it."""
    if protocol == 0:
        images = b''.join(b"S'" + ''.join(f'\\x{byte:02x}' for byte in image).encode() + b"'\na" for image in IMAGES)
        flags = b''.join(b'I01\na' if flag else b'I00\na' for flag in SAME)
        content = b'((l' + images + b'(l' + flags + b't.'
    else:
        head, true, false = (b'\x80\x02', b'\x88', b'\x89') if protocol == 2 else (b'', b'I01\n', b'I00\n')
        images = b''.join(b'T' + struct.pack('<i', len(image)) + image for image in IMAGES)
        flags = b''.join(true if flag else false for flag in SAME)
        content = head + b'(](' + images + b'e](' + flags + b'et.'
    (tmp_path / 'lfw.bin').write_bytes(content)
    check(tmp_path / 'lfw.bin')


class Call:
    def __init__(self, *call):
        self.call = call

    def __reduce__(self):
        return self.call


def calls(path):
    """What would make the file ``path`` if it were run."""
    import os
    import pathlib
    import shutil

    command = f'touch {path}'
    return [
        Call(os.system, (command,)),
        Call(eval, (f'open({str(path)!r}, "w")',)),
        Call(exec, (f'open({str(path)!r}, "w")',)),
        Call(pathlib.Path.touch, (path,)),
        Call(shutil.copy, (__file__, str(path))),
        Call(subprocess.check_call, (['touch', str(path)],)),
        Call(__import__, ('os',)),
        Call(getattr, (str, 'format')),
        Call(np.load, (str(path),)),
        Call(bytearray, (1 << 40,)),
    ]


@pytest.mark.parametrize('number', range(10))
@pytest.mark.parametrize('protocol', [0, 2, 4, 5])
def test_a_pickle_that_would_run_code_is_refused(tmp_path, number, protocol):
    call = calls(tmp_path / 'harm')[number]
    for content in ((IMAGES, call), ([*IMAGES[:7], call], SAME), call):
        path = write(tmp_path / 'lfw.bin', content, protocol)
        with pytest.raises(ConfigError, match=r'lfw.bin.*it names [\w.]+, which is no data'):
            read_bin(path)
    assert not (tmp_path / 'harm').exists()


def test_the_pickles_above_do_run_code(tmp_path):
    """Else the test above would show nothing."""
    for number in range(6):
        harm = tmp_path / f'harm{number}'
        pickle.loads(pickle.dumps(calls(harm)[number]))
        assert harm.exists()


@pytest.mark.parametrize(
    'content',
    [
        np.array([IMAGES, SAME], dtype=object),
        np.array([(1, 2)], dtype='i4,i4'),
        np.zeros(1, [('a', 'u1', (1000,))]),
        np.datetime64('2020-01-01'),
    ],
)
def test_arrays_of_other_things_are_refused(tmp_path, content):
    with pytest.raises(ConfigError, match='it holds an array of .*, which is no plain data'):
        read_bin(write(tmp_path / 'lfw.bin', (IMAGES, content), 2))


def nested(depth: int) -> list:
    """Lists of two in lists of two, a few bytes in a file; written out they have 2**depth brackets."""
    value = [1]
    for _ in range(depth):
        value = [value, value]
    return value


def hand_made(*opcodes: bytes) -> bytes:
    return b'\x80\x02' + b''.join(opcodes) + b'.'


RECONSTRUCT = b'cnumpy.core.multiarray\n_reconstruct\n'
DTYPE = b'cnumpy\ndtype\nX\x02\x00\x00\x00u1\x85R'


@pytest.mark.parametrize(
    'content',
    [
        # an array of 2**60 bytes, of which the file has four; then with a negative length
        hand_made(RECONSTRUCT, b')R(K\x01\x8a\x08', struct.pack('<q', 1 << 60), b'\x85', DTYPE, b'\x89C\x04abcdtb'),
        hand_made(RECONSTRUCT, b')R(K\x01J\xfc\xff\xff\xff\x85', DTYPE, b'\x89C\x04abcdtb'),
        # numpy.ndarray called with a size
        hand_made(b'cnumpy\nndarray\nJ\xff\xff\xff\x7f\x85R'),
        # a dtype that gets the fields of a structure afterwards is what it was: four bytes are no four structures
        hand_made(RECONSTRUCT, b')R(K\x01K\x04\x85', DTYPE,
                  b'(K\x03X\x01\x00\x00\x00|N' b'X\x01\x00\x00\x00aNJ\x00\x10\x00\x00tb\x89C\x05abcdetb'),
        hand_made(b'c_codecs\nencode\nX\x01\x00\x00\x00aX\x05\x00\x00\x00utf-7\x86R'),
        hand_made(b'Pid\n'),
        # memory by numbers: for the data of an array, for a bytearray, and items of no bytes; names and dtypes without end
        hand_made(RECONSTRUCT, b')R(K\x01\x8a\x05\0\0\0\0\x20\x85', DTYPE, b'\x89\x8a\x05\0\0\0\0\x20tb'),
        hand_made(b'c__builtin__\nbytearray\n\x8a\x05\0\0\0\0\x20\x85R'),
        hand_made(RECONSTRUCT, b')R(K\x01\x8a\x06\0\0\0\0\0\x20\x85', DTYPE.replace(b'u1', b'S0'), b'\x89C\0tb'),
        hand_made(b'c' + b'x' * 3_000_000 + b'\nmkdir\n'),
        hand_made(DTYPE.replace(b'X\x02\x00\x00\x00u1', b'X' + struct.pack('<I', 3_000_000) + b'x' * 3_000_000)),
        hand_made(b'cnumpy\ndtype\n]q\0', b'(h\0h\0lq\0' * 60, b'\x85R'),
        hand_made(b'\x82\x01'),
    ],
    ids=lambda content: f'{len(content)} bytes',
)  # fmt: skip
def test_pickles_made_by_hand_do_no_harm(tmp_path, content):
    (tmp_path / 'lfw.bin').write_bytes(content)
    with pytest.raises(ConfigError, match='cannot read .*lfw.bin') as error:
        read_bin(tmp_path / 'lfw.bin')
    assert len(str(error.value)) < 1000


def test_one_file_cannot_change_how_the_next_is_read(tmp_path):
    """A pickle may set attributes of the functions that it is given."""
    defaults = hand_made(b'c_codecs\nencode\nN}X\x0c\x00\x00\x00__defaults__X\x06\x00\x00\x00latin1\x85s\x86b')
    (tmp_path / 'a.bin').write_bytes(defaults)
    with pytest.raises(ConfigError, match='must hold two things'):
        read_bin(tmp_path / 'a.bin')
    check(write(tmp_path / 'lfw.bin', (IMAGES, SAME), 2))
    (tmp_path / 'a.bin').write_bytes(hand_made(b'c_codecs\nencode\nX\x01\x00\x00\x00a\x85R'))
    with pytest.raises(ConfigError, match='cannot read'):  # no encoding was named
        read_bin(tmp_path / 'a.bin')


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        ((IMAGES[:7], SAME), 'holds 7 images and 4 flags; there must be two images a flag'),
        ((IMAGES, SAME[:3]), 'holds 8 images and 3 flags'),
        (([], []), 'holds 0 images and 0 flags'),
        (IMAGES, 'must hold two things, images and flags, found list of 8'),
        ((IMAGES, 'yes'), 'found list of 8 and str of 3'),
        ({'bins': IMAGES}, 'found dict of 1'),
        (None, 'found NoneType'),
        (([*IMAGES[:3], b'GIF89a' + bytes(40), *IMAGES[4:]], SAME), 'image 3 must be the bytes of a JPEG or PNG file, found 46'),
        (([*IMAGES[:3], b'', *IMAGES[4:]], SAME), 'image 3 must be .*found 0 bytes'),
        (([*IMAGES[:3], 'text', *IMAGES[4:]], SAME), 'image 3 must be .*found str of 4'),
        (([*IMAGES[:3], np.zeros((4, 4)), *IMAGES[4:]], SAME), r'image 3 must be .*found an array, float64 \(4, 4\)'),
        ((IMAGES, [True, False, 2, True]), 'flags must be True or False, or 1 or 0, found 2'),
        ((IMAGES, [True, False, float('nan'), True]), 'found nan'),
        ((IMAGES, np.array([0.5] * 4)), 'found .*0.5'),
        ((IMAGES, np.zeros((4, 2))), r'found array\(\[0., 0.\]\)'),
        ((IMAGES, [[[1]], 1, 0, 0]), r'found \[1\]'),
        ((IMAGES, [nested(60), 1, 0, 0]), r'found \[\[\[\.\.\.\], \[\.\.\.\]\], \[\[\.\.\.\], \[\.\.\.\]\]\]'),
        ((IMAGES, ['x' * 30_000_000, 1, 0, 0]), r"found 'x+\.\.\.x+'"),
        ((IMAGES, [10**5000, 1, 0, 0]), 'found a int'),
        ((IMAGES, np.array(1)), r'found list of 8 and an array, int64 \(\)'),
    ],
)  # fmt: skip
def test_other_content_is_named(tmp_path, content, message):
    with pytest.raises(ConfigError, match=message) as error:
        read_bin(write(tmp_path / 'lfw.bin', content))
    assert len(str(error.value)) < 1000


def test_limits_and_damaged_files(tmp_path, monkeypatch):
    path = write(tmp_path / 'lfw.bin', (IMAGES, SAME))
    content = path.read_bytes()
    for length in range(0, len(content) - 1, 97):
        path.write_bytes(content[:length])
        with pytest.raises(ConfigError, match='cannot read .*lfw.bin'):
            read_bin(path)
    path.write_bytes(content)
    with pytest.raises(ConfigError, match="no file .*lfv.bin.*did you mean 'lfw.bin'"):
        read_bin(tmp_path / 'lfv.bin')
    monkeypatch.setattr(face_bin, 'MOST_IMAGES', 7)
    with pytest.raises(ConfigError, match='holds 8 images, more than 7'):
        read_bin(path)
    monkeypatch.setattr(face_bin, 'MOST_BYTES', 100)
    with pytest.raises(ConfigError, match=f'has {len(content)} bytes; files of pairs have at most 100'):
        read_bin(path)


def test_ten_folds_of_neighbours(recwarn):
    same = np.arange(6000) // 300 % 2 == 0  # lfw.bin: 300 of each in turn
    protocol = pair_protocol_of_bin('lfw', same)
    assert protocol.name == 'lfw' and protocol.genuine.tolist() == same.tolist()
    assert not [each for each in recwarn if each.category is UserWarning]  # collected garbage may warn too
    assert protocol.pairs.dtype == np.int32 and protocol.pairs[[0, 1, -1]].tolist() == [[0, 1], [2, 3], [11998, 11999]]
    assert np.array_equal(protocol.folds, np.arange(6000) // 600)
    faces = protocol.faces
    assert len(faces) == 12000 and faces.keys[[0, 11999]].tolist() == ['0', '11999'] and len(set(faces.keys)) == 12000
    assert faces.boxes.shape == (12000, 4) and faces.landmarks.shape == (12000, 5, 2) and faces.scores.shape == (12000,)
    assert np.isnan(faces.boxes).all() and np.isnan(faces.landmarks).all() and np.isnan(faces.scores).all()


@pytest.mark.parametrize('count', [10, 13, 29, 101])
def test_folds_are_those_of_scikit_learn(count):
    from sklearn.model_selection import KFold

    folds = pair_protocol_of_bin('own', np.arange(count) % 2 == 0).folds
    for fold, (_, test) in enumerate(KFold(10).split(np.zeros(count))):
        assert np.flatnonzero(folds == fold).tolist() == test.tolist()


def test_a_file_sorted_by_its_flags_is_warned_of():
    with pytest.warns(UserWarning, match='calfw: 10 of 10 folds have pairs of one kind only'):
        pair_protocol_of_bin('calfw', np.arange(6000) < 3000)
    with pytest.raises(ConfigError, match='own: 10 folds need at least 10 pairs, found 4'):
        pair_protocol_of_bin('own', np.array(SAME))


def test_reading_needs_no_torch(tmp_path):
    """The unpickler itself; a data set's room imports torch with its neighbours."""
    code = (
        'import importlib.util, sys; spec = importlib.util.spec_from_file_location("safe", sys.argv[1]); '
        'module = importlib.util.module_from_spec(spec); spec.loader.exec_module(module); '
        'print("torch" in sys.modules, len(module.load_data(open(sys.argv[2], "rb"))[0]))'
    )
    path = write(tmp_path / 'lfw.bin', (IMAGES, SAME))
    module = face_bin.load_data.__code__.co_filename
    result = subprocess.run([sys.executable, '-c', code, module, path], capture_output=True, text=True, check=True)
    assert result.stdout.split() == ['False', '8']
