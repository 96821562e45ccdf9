"""The tool that turns files of embeddings into tables, in a process where torch and MMEngine cannot be imported."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers import ROOT

from mmsskd.face.evaluation.embeddings import read_embeddings, write_embeddings
from mmsskd.face.evaluation.evaluate import evaluate_templates
from mmsskd.face.evaluation.options import EvaluationOptions
from mmsskd.face.evaluation.protocols import read_templates

WITHOUT = """
import importlib.abc, runpy, sys
class Refuse(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition('.')[0] in ('torch', 'mmengine', 'mmcv', 'mmpretrain', 'pandas', 'sklearn', 'scipy', 'cv2'):
            raise ImportError(f'{name} is not to be imported')
sys.meta_path.insert(0, Refuse())
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name='__main__')
"""


def tool(*arguments, cwd, script=ROOT / 'tools/face/eval_embeddings.py', flags=()):
    command = [sys.executable, *flags, '-c', WITHOUT, script, *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True)


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """Templates of 12 people as CSV, and two models' embeddings of their 60 faces."""
    folder = tmp_path_factory.mktemp('embeddings')
    rng = np.random.default_rng(0)
    rows, people = ['TEMPLATE_ID,SUBJECT_ID,FILE,MEDIA_ID,SIGHTING_ID'], np.repeat(np.arange(12), 5)
    for number, who in enumerate(people):
        kind = 'g' if number % 5 < 2 else f'p{number}_'
        rows.append(f'{kind}{who},person{who},{who}/{number}.jpg,m{number},1')
    (folder / 'templates.csv').write_text('\n'.join(rows) + '\n')
    probes = [f'p{number}_{who}' for number, who in enumerate(people) if number % 5 >= 2]
    (folder / 'pairs.csv').write_text(''.join(f'g{who},{probe}\n' for who in range(12) for probe in probes))
    (folder / 'gallery.csv').write_text('TEMPLATE_ID\n' + ''.join(f'g{who}\n' for who in range(9)))
    (folder / 'probes.csv').write_text('TEMPLATE_ID\n' + ''.join(f'{probe}\n' for probe in probes))
    keys = np.array([f'{who}/{number}.jpg' for number, who in enumerate(people)])
    order = rng.permutation(60)
    features = np.eye(12, 16)[people] + rng.normal(0, 0.05, (60, 16))
    write_embeddings(folder / 'good.npz', keys[order], features[order], features[order])
    noisy = features + rng.normal(0, 0.4, (60, 16))
    noisy[7] = np.nan
    write_embeddings(folder / 'noisy.npz', keys, noisy.astype(np.float16))
    write_embeddings(folder / 'few.npz', keys[4:], features[4:])
    return folder


PROTOCOL = (
    '--templates',
    'templates.csv',
    '--pairs',
    'pairs.csv',
    '--gallery',
    'gallery.csv',
    '--probes',
    'probes.csv',
)


def protocol_of(folder):
    return read_templates(*(folder / f'{name}.csv' for name in ('templates', 'pairs', 'gallery', 'probes')))


@pytest.mark.slow
def test_all_tables_without_torch(folder, tmp_path):
    outputs = ('--json', tmp_path / 'a/numbers.json', '--plots', tmp_path / 'plots', '--matches', tmp_path / 'nist')
    result = tool('good.npz', 'student=noisy.npz', *PROTOCOL, '--fars', '0.01', '0.1', *outputs, cwd=folder)
    assert result.returncode == 0, result.stderr
    assert '### good on templates' in result.stdout and '### student on templates' in result.stdout
    assert 'failures to enrol: 1 (1/7.jpg)' in result.stdout and '| model | tar@far=1e-2 |' in result.stdout
    assert '- good: rule: exact; flip: yes' in result.stdout and '- student: rule: exact; flip: no' in result.stdout
    reports = json.loads((tmp_path / 'a/numbers.json').read_text())
    assert list(reports) == ['good', 'student'] and reports['student']['embeddings'] == 'noisy.npz'
    found = read_embeddings(folder / 'noisy.npz', protocol_of(folder).faces)
    options = EvaluationOptions(fars=(0.01, 0.1))
    expected = evaluate_templates(protocol_of(folder), found.features, options=options)
    assert reports['student']['summary'] == json.loads(json.dumps(expected['summary']))
    assert reports['good']['summary']['rank-1']['mean'] == 1 and reports['good']['summary']['tar@far=1e-2']['mean'] == 1
    assert {path.name for path in (tmp_path / 'plots').iterdir()} >= {'roc.png', 'det.svg', 'cmc.png', 'dir.svg'}
    assert sorted(path.name for path in (tmp_path / 'nist/student').iterdir()) == [
        'templates.candidate_lists', 'templates.matches',
    ]  # fmt: skip


def test_options_reach_the_numbers(folder, tmp_path):
    options = ['--roc-rule=insightface', '--no-flip', '--normalize', '--no-media', '--tpir-rank=any', '--fpirs=0.2']
    options += ['--ranks', 2, 3, '--memory', 2]
    result = tool(
        'good.npz', *PROTOCOL, *options, '--json', 'numbers.json', cwd=shutil.copytree(folder, tmp_path / 'copy')
    )
    assert result.returncode == 0, result.stderr
    report = json.loads((tmp_path / 'copy/numbers.json').read_text())['good']
    assert report['options'] == dict(
        flip=False, normalize_before_pooling=True, detector_weights=False, media_pooling=False, roc_rule='insightface',
        fars=[1e-3, 1e-2, 1e-1], fpirs=[0.2], ranks=[2, 3], tpir_rank=None,
    )  # fmt: skip
    assert {'rank-2', 'rank-3', 'tpir@fpir=0.2'} < set(report['summary']) and 'mate at any rank' in result.stdout


@pytest.mark.slow
def test_pairs_of_single_faces(tmp_path):
    rng = np.random.default_rng(0)
    lines = ['10\t5']
    for _ in range(10):
        lines += [f'ann\t{i}\t{i + 1}' for i in range(1, 6)] + [f'ann\t{i}\tbob\t{i}' for i in range(1, 6)]
    (tmp_path / 'pairs.txt').write_text('\n'.join(lines) + '\n')
    keys = [f'{who}/{who}_{number:04}.jpg' for who in ('ann', 'bob') for number in range(1, 7)]
    for key in keys:
        (tmp_path / 'images' / key).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / 'images' / key).touch()
    features = np.repeat(np.eye(2, 8), 6, axis=0) + rng.normal(0, 0.01, (12, 8))
    write_embeddings(tmp_path / 'a.npz', keys, features)
    result = tool('a.npz', '--lfw', 'pairs.txt', 'images', '--plots', 'plots', cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert '| 100.00 | 0.00 | 0.00 |' in result.stdout and 'standard error' in result.stdout
    assert 'a.npz has 1 faces that the protocol does not have' in result.stdout  # bob's sixth
    assert sorted(path.name for path in (tmp_path / 'plots').iterdir()) == ['det.png', 'det.svg', 'roc.png', 'roc.svg']
    result = tool('a.npz', '--lfw', 'pairs.txt', 'images', '--matches', 'nist', cwd=tmp_path)
    assert result.returncode == 1 and result.stderr.startswith('error: --matches: ')


def test_runs_from_a_checkout_that_is_not_installed(folder, tmp_path):
    """Isolated: neither the folder nor what is installed for development is on the path, but numpy is."""
    checkout = tmp_path / 'checkout'
    for name in (
        'mmsskd/face',
        'mmsskd/utils',
        'mmsskd/errors.py',
        'mmsskd/version.py',
        'mmsskd/__init__.py',
        'tools/face',
    ):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        (checkout / name).parent.mkdir(parents=True, exist_ok=True)
        copy(ROOT / name, checkout / name)
    script = tmp_path / 'run.py'
    site = Path(np.__file__).parents[1]
    script.write_text(f'import sys\nsys.path.append({str(site)!r})\n{WITHOUT}')
    command = [sys.executable, '-I', '-S', script, checkout / 'tools/face/eval_embeddings.py', 'good.npz', *PROTOCOL]
    result = subprocess.run(list(map(str, command)), cwd=folder, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert '### good on templates' in result.stdout


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (('god.npz', *PROTOCOL), "error: no file 'god.npz' in .*did you mean 'good.npz'"),
        (('few.npz', *PROTOCOL), "error: 'few.npz' has no features of 4 of the 60 faces: '0/0.jpg', .*--allow-missing"),
        (('good.npz', 'good.npz', *PROTOCOL), "error: 'good.npz': give each file a name of its own.*taken: good"),
        (('good.npz', *PROTOCOL, '--tpir-rank', 'one'), "error: --tpir-rank: found 'one'"),
        (('good.npz', *PROTOCOL, '--tpir-rank', '\xb2'), "error: --tpir-rank: found '\xb2'"),
        (('good.npz', *PROTOCOL, '--fars', '2'), 'error: fars: found'),
        (('noisy.npz', *PROTOCOL, '--max-failures', '0'), "error: 1 of 60 faces have no usable feature .*'1/7.jpg'"),
        (
            ('good.npz', *PROTOCOL, '--detector-weights'),
            'error: detector_weights: 60 of 60 faces have no detector score',
        ),
        (('good.npz', '--templates', 'templates.csv'), 'error: .*give pairs for 1:1'),
    ],
)
def test_mistakes_are_one_line(folder, arguments, message):
    result = tool(*arguments, cwd=folder)
    assert result.returncode == 1 and result.stdout == '' and result.stderr.count('\n') == 1
    assert re.match(message, result.stderr), result.stderr


def test_missing_faces_are_failures_where_that_is_allowed(folder):
    result = tool('few.npz', *PROTOCOL, '--allow-missing', cwd=folder)
    assert result.returncode == 0, result.stderr
    assert 'Warning: few.npz lacks 4 faces, counted as failures to enrol' in result.stdout
    assert 'Faces: 60, failures to enrol: 4 (0/0.jpg, 0/1.jpg, 0/2.jpg, 0/3.jpg).' in result.stdout
