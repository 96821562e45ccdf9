"""The README does what it says: its files exist, its schedules parse, its configs of own data train."""

import pickle
import re
import runpy

import numpy as np
import pytest
from helpers import ROOT, parse_phases, warm_python
from mmengine.config import Config

from mmsskd.compare.comparison import Comparison
from mmsskd.compare.plan import read_plan
from mmsskd.distill.phases import named_schedule

README = (ROOT / 'README.md').read_text()
BLOCKS = re.findall(r'```python\n(.*?)```', README, re.S)


def block(start: str) -> str:
    (found,) = [text for text in BLOCKS if text.startswith(start)]
    return found


def test_files_and_tools_that_it_names_exist():
    headings = re.findall(r'^#+ (.*)$', README, re.M)
    anchors = {'#' + re.sub(r'[^\w -]', '', heading).lower().replace(' ', '-') for heading in headings}
    for target in re.findall(r'\]\((?!https?:)([^)]+)\)', README):
        assert target in anchors or (ROOT / target.partition('#')[0]).exists(), target
    for target in re.findall(r'(?:tools|configs|docs)/[\w/.]+\.(?:py|sh|md)', README):
        assert (ROOT / target).is_file(), target


def test_options_that_it_names_are_those_of_the_tools(monkeypatch, capsys):
    rows = re.findall(r'^\| `(tools/\w+\.py)[^|]*\|(.*)\|$', README, re.M)
    assert len(rows) == 7
    for tool, options in rows:
        monkeypatch.setattr('sys.argv', [tool, '--help'])
        with pytest.raises(SystemExit, match='0'):
            runpy.run_path(str(ROOT / tool), run_name='__main__')
        help_text = capsys.readouterr().out
        for option in re.findall(r'--[a-z-]+', options):
            assert option in help_text, f'{tool} {option}'


STAGES = ['layer1', 'layer2', 'layer3']
LINES = [line for line in block('phases = [').splitlines() if line.startswith('phases')]


@pytest.mark.parametrize('line', LINES, ids=lambda line: line.partition('#')[2].strip())
def test_schedules_that_it_shows_are_schedules(line):
    phases = []
    exec(line.replace('..., ', '').replace(', ...', ''), scope := {})
    phases = scope['phases']
    length = dict(epochs=1)
    optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.1))
    assert len(parse_phases(phases, STAGES, 'epochs', length, length, optim_wrapper)) == len(
        named_schedule(phases, STAGES)
    )


def write_batch(path, seed):
    data = np.random.default_rng(seed).integers(0, 256, (4, 3072), dtype=np.uint8)
    path.write_bytes(pickle.dumps(dict(data=data, labels=[0, 1, 2, 4])))


def test_own_comparison_fits_the_configs_of_own_data(tmp_path, monkeypatch):
    """The file as it stands, beside the two configs and the plain student in two lines: every arm and every try of it."""
    (tmp_path / 'mine').mkdir()
    teacher, sskd = [text for text in BLOCKS if "type='mmsskd.CIFARFiles'" in text]
    lines = re.search(r'`mine/student\.py`,\s+which is `(_base_ = .*?)` and `(model = .*?)`:', README).groups()
    texts = dict(teacher=teacher, sskd=sskd, student='\n'.join(lines), compare=block('# mine/compare.py'))
    for name, text in texts.items():
        (tmp_path / f'mine/{name}.py').write_text(text)
    monkeypatch.chdir(tmp_path)
    plan = read_plan('mine/compare.py')
    Comparison(plan, tmp_path / 'out')
    assert len(plan.arms) == 6 and plan.tries == 3


@pytest.mark.slow
def test_own_data_in_cifar_format_by_inheritance(tmp_path):
    """The two files of the README as they stand, run by the two commands of the README; only the epochs are cut."""
    (tmp_path / 'mine/data').mkdir(parents=True)
    for seed, name in enumerate(('data_batch_1', 'data_batch_2', 'val_batch', 'test_batch')):
        write_batch(tmp_path / 'mine/data' / name, seed)
    teacher, student = [text for text in BLOCKS if "type='mmsskd.CIFARFiles'" in text]
    (tmp_path / 'mine/teacher.py').write_text(teacher)
    (tmp_path / 'mine/sskd.py').write_text(student)
    schedule = 'default_hooks.stage_schedule'
    cut = {
        'teacher': ['train_cfg.max_epochs=1'],
        'sskd': [f'{schedule}.transfer.epochs=1', f'{schedule}.head.epochs=1',
                    'model.teacher_checkpoint=work_dirs/teacher/epoch_1.pth'],
    }  # fmt: skip
    for name, options in cut.items():
        command = f'tools/train.py mine/{name}.py'
        assert f'python {command}' in README
        script, config = command.split()
        options = [*options, 'train_dataloader.num_workers=0', 'train_dataloader.persistent_workers=False']
        options += ['val_dataloader.num_workers=0', 'val_dataloader.persistent_workers=False']
        result = warm_python(ROOT / script, config, '--cfg-options', *options, cwd=tmp_path)
        assert result.returncode == 0, result.stderr
    cfg = Config.fromfile(tmp_path / 'work_dirs/sskd/student.py')
    assert cfg.model.head.num_classes == 5 and (tmp_path / 'work_dirs/sskd/student.pth').is_file()
