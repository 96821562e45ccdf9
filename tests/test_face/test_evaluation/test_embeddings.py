"""Files of embeddings: their faces, their forms, and what is refused before memory is taken."""

import io
import zipfile

import numpy as np
import pytest
from metric_helpers import make_faces

from mmsskd.errors import ConfigError
from mmsskd.face.evaluation.embeddings import read_embeddings, write_embeddings


def test_embeddings_find_their_faces(tmp_path):
    faces = make_faces(30)
    rng = np.random.default_rng(0)
    order = rng.permutation(30)
    features, flipped = rng.standard_normal((30, 4)).astype(np.float32), rng.standard_normal((30, 4)).astype(np.float32)
    scores = rng.random(30)
    write_embeddings(tmp_path / 'new/a.npz', faces.keys[order], features[order], flipped[order], scores[order])
    assert [path.name for path in (tmp_path / 'new').iterdir()] == ['a.npz']
    found = read_embeddings(tmp_path / 'new/a.npz', faces)
    assert np.array_equal(found.features, features) and np.array_equal(found.features_flip, flipped)
    assert np.array_equal(found.faces.scores, scores.astype(np.float32)) and (found.missing, found.extra) == (0, 0)
    write_embeddings(
        tmp_path / 'b.npz', np.append(faces.keys[5:], ['x', 'y']), np.append(features[5:], np.ones((2, 4)), 0)
    )
    found = read_embeddings(tmp_path / 'b.npz', faces, strict=False)
    assert np.isnan(found.features[:5]).all() and np.array_equal(found.features[5:], features[5:])
    assert (found.missing, found.extra) == (5, 2) and found.features_flip is None and found.faces is faces


def test_numbers_and_bytes_are_keys_too(tmp_path):
    faces = make_faces(3)
    faces = type(faces)(**(vars(faces) | dict(keys=np.array(['0', '1', '10']))))
    features = np.float32([[1], [2], [3]])
    for keys in (np.array([10, 0, 1]), np.array([b'10', b'0', b'1'])):
        np.savez(tmp_path / 'a.npz', keys=keys, features=features)
        assert read_embeddings(tmp_path / 'a.npz', faces).features.tolist() == [[2], [3], [1]]


@pytest.mark.parametrize(
    ('arrays', 'message'),
    [
        (dict(feature=1), r"has no array 'features'; did you mean 'feature'"),
        (dict(keys=None), "has no array 'keys'"),
        (dict(keys=np.array(['a', 'b', 'a', 'b'])), "2 are there more than once, for instance 'a' in rows 0 and 2"),
        (
            dict(keys=np.array(['a', 'b'])),
            r"'keys' must be text of shape \(n,\), n the rows of 'features' \(4\), found <U1 \(2,\)",
        ),
        (dict(keys=np.zeros(4)), "'keys' must be text"),
        (dict(features=np.ones((4, 2), np.uint8)), r"'features' must be float of shape \(n, D\).*found uint8 \(4, 2\)"),
        (dict(features=np.ones(4)), "'features' must be float"),
        (dict(features=np.float64(4)), "'keys' must be text"),
        (dict(features_flip=np.ones((4, 3))), r"'features_flip' must be float .* found float64 \(4, 3\)"),
        (dict(detector_scores=np.ones(3)), r"'detector_scores' must be float of shape \(n,\)"),
        (dict(keys=np.array(['a', 'b', 'c', None], object)), 'cannot read .* without pickle'),
        (dict(keys=np.zeros(0, 'U1'), features=np.ones((0, 2))), 'has no faces, the protocol has 4'),
    ],
)
def test_files_of_another_form_are_named(tmp_path, arrays, message):
    content = dict(keys=np.array(['a', 'b', 'c', 'd']), features=np.ones((4, 2))) | arrays
    if 'feature' in content:
        content['feature'] = content.pop('features')
    np.savez(tmp_path / 'a.npz', **{name: array for name, array in content.items() if array is not None})
    with pytest.raises(ConfigError, match=message):
        read_embeddings(tmp_path / 'a.npz', make_faces(4))


def test_files_that_are_no_npz(tmp_path):
    for content in (b'keys,features\n', b'PK\x03\x04 cut off'):
        (tmp_path / 'a.npz').write_bytes(content)
        with pytest.raises(ConfigError, match=r"cannot read '.*a\.npz' as an \.npz"):
            read_embeddings(tmp_path / 'a.npz', make_faces(2))
    np.save(tmp_path / 'b.npy', np.ones(3))
    with pytest.raises(ConfigError, match='cannot read'):
        read_embeddings(tmp_path / 'b.npy', make_faces(2))
    for content, fault in ((b'', r'empty file \(0 bytes\)'), (None, 'folder')):
        (tmp_path / 'a.npz').unlink()
        (tmp_path / 'a.npz').mkdir() if content is None else (tmp_path / 'a.npz').write_bytes(content)
        with pytest.raises(ConfigError, match=rf"a\.npz': found a file that cannot be read: {fault}"):
            read_embeddings(tmp_path / 'a.npz', make_faces(2))


def header(shape, descr='<f4'):
    """An array of the format without its numbers."""
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, dict(descr=descr, fortran_order=False, shape=shape))
    return file.getvalue()


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        (
            header((402_653_184, 512)),
            r"'features' says that it is float32 \(402653184, 512\), 824,633,720,832 bytes, and has at most 8",
        ),
        (header((2**40, 2**40)), "'features' says that it is float32"),
        (header((-1, 4)), 'cannot read'),
        (b'no array', 'cannot read'),
        (header((4, 2))[:20], 'cannot read'),
    ],
)
def test_arrays_that_lie_are_named_before_memory_is_taken(tmp_path, content, message):
    np.savez(tmp_path / 'a.npz', keys=np.array(list('abcd')))
    with zipfile.ZipFile(tmp_path / 'a.npz', 'a') as file:
        file.writestr('features.npy', content + bytes(8))
    with pytest.raises(ConfigError, match=message):
        read_embeddings(tmp_path / 'a.npz', make_faces(4))


def test_a_directory_that_lies_is_no_proof(tmp_path):
    """The zip says 768 GiB of the member, as its header does."""
    size = 824_633_720_832
    content = header((402_653_184, 512))
    np.savez(tmp_path / 'a.npz', keys=np.array(list('abcd')))
    with zipfile.ZipFile(tmp_path / 'a.npz', 'a') as file:
        file.writestr('features.npy', content + bytes(8))
        member = file.getinfo('features.npy')
        member.file_size = member.compress_size = size + len(content)
    with pytest.raises(ConfigError, match="'features' says that it is"):
        read_embeddings(tmp_path / 'a.npz', make_faces(4))


def test_keys_that_are_no_text_are_named(tmp_path):
    beyond = np.frombuffer(np.uint32([0x110000, 65, 66, 67]).tobytes(), '<U1')
    for keys in (np.array([b'\xff', b'b', b'c', b'd']), beyond):
        np.savez(tmp_path / 'a.npz', keys=keys, features=np.ones((4, 2)))
        with pytest.raises(ConfigError, match="'keys' must be text, as bytes in UTF-8"):
            read_embeddings(tmp_path / 'a.npz', make_faces(4))
    np.savez(tmp_path / 'a.npz', keys=np.array(['x' * 100_000, 'b', 'c', 'd']), features=np.ones((4, 2)))
    with pytest.raises(ConfigError) as error:
        read_embeddings(tmp_path / 'a.npz', make_faces(4))
    assert len(str(error.value)) < 2000


def test_compressed_arrays_are_read(tmp_path):
    faces = make_faces(400)
    np.savez_compressed(tmp_path / 'a.npz', keys=faces.keys, features=np.zeros((400, 512), np.float32))
    assert read_embeddings(tmp_path / 'a.npz', faces).features.shape == (400, 512)
