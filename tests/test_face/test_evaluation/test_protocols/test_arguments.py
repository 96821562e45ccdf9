"""Protocols named on the command line, and what each tool says of what is there."""

import argparse
import csv
import io
import runpy
import subprocess
import sys

import numpy as np
import pytest
from helpers import ROOT
from ijba_helpers import write_ijba
from protocol_helpers import write_ijbc, write_insightface, write_lfw, write_templates

from mmsskd.errors import ConfigError
from mmsskd.face.evaluation.protocols import (
    read_ijba,
)
from mmsskd.face.evaluation.protocols.arguments import add_protocol_arguments, protocol_from_args

TOOLS = ROOT / 'tools/face'


def parse(*words):
    parser = argparse.ArgumentParser()
    add_protocol_arguments(parser)
    return parser.parse_args([str(word) for word in words])


def test_every_protocol_can_be_named_on_the_command_line(tmp_path):
    ijba, ijbc, lists = write_ijba(tmp_path / 'a'), write_ijbc(tmp_path / 'c'), write_insightface(tmp_path / 'i')
    own, lfw = write_templates(tmp_path / 't'), write_lfw(tmp_path / 'pairs.txt')
    search = ('--gallery', own / 'gallery.csv', '--probes', own / 'probes.csv')
    for words, faces, root in (
        (('--ijba', ijba, '--splits', 2, 1), 6, ijba / 'images'),
        (('--ijbc', ijbc, '--images', ijbc), 5, ijbc),
        (('--insightface', lists, '--name', 'IJBC'), 4, lists / 'loose_crop'),
        (('--templates', own / 'own.csv', '--pairs', own / 'pairs.csv', *search, '--images', own), 5, own),
        (('--lfw', lfw, tmp_path, '--suffix', '.png'), 9, tmp_path),
    ):
        protocol = protocol_from_args(parse(*words))
        assert len(protocol.faces) == faces and protocol.root == str(root)
    with pytest.raises(
        ConfigError, match='--name does not belong to --ijba, which takes --images, --landmarks, --splits'
    ):
        protocol_from_args(parse('--ijba', ijba, '--name', 'IJBC'))
    for words in ((), ('--ijba', ijba, '--ijbc', ijbc), ('--ijba', ijba, '--splits', 'split1')):
        with pytest.raises(SystemExit):
            parse(*words)


def test_the_list_of_faces_serves_as_landmarks(tmp_path):
    root = write_ijba(tmp_path)
    write_list = runpy.run_path(str(TOOLS / 'list_faces.py'))['write_list']
    protocol, file = read_ijba(root, splits=[1, 2]), io.StringIO()
    write_list(protocol, file)
    rows = list(csv.DictReader(io.StringIO(file.getvalue())))
    assert [row['KEY'] for row in rows] == protocol.faces.keys.tolist()
    assert rows[0]['FILE'] == str(root / 'images/img/1.JPG') and rows[0]['FACE_X'] == '328' and rows[0]['x1'] == ''
    faces = protocol.faces
    values = np.random.default_rng(0).normal(60, 20, faces.landmarks.shape).astype(np.float32)
    faces.landmarks[:] = values
    with open(tmp_path / 'marks.csv', 'w', newline='') as out:
        write_list(protocol, out)
    again = read_ijba(root, landmarks=tmp_path / 'marks.csv', splits=[1, 2])
    assert np.array_equal(again.faces.landmarks, values)


def test_the_command_line_allows_files_outside(tmp_path):
    root = write_ijba(tmp_path / 'set')
    for path in root.glob('IJB-A_1*/*/*.csv'):
        path.write_bytes(path.read_bytes().replace(b'img/3.jpg', b'../3.jpg'))
    words = ('--ijba', root, '--splits', 1, 2)
    with pytest.raises(ConfigError, match='--allow-outside'):
        protocol_from_args(parse(*words))
    assert '../3.jpg' in protocol_from_args(parse(*words, '--allow-outside')).faces.files


def test_the_tool_says_what_is_there_and_what_is_wrong(tmp_path):
    root = write_ijba(tmp_path / 'set')
    (root / 'images/img/4.png').unlink()
    command = [sys.executable, str(TOOLS / 'list_faces.py'), '--ijba', str(root), '--out', str(tmp_path / 'faces.csv')]
    done = subprocess.run([*command, '--splits', '1', '2'], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (
        'IJB-A: 6 faces, 2 without image file (missing file: img/4.jpg), 0 with landmarks, 6 with a box' in done.stderr
    )
    assert len((tmp_path / 'faces.csv').read_text().splitlines()) == 7
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ['faces.csv', 'set']
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr.splitlines()[-1].startswith('error: IJB-A: no file')


def test_the_readers_import_no_torch():
    code = (
        'import sys; import mmsskd.face.evaluation.protocols.arguments; '
        'print(sorted({"torch", "mmcv", "pandas", "sklearn", "cv2"} & set(sys.modules)))'
    )
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == '[]'
