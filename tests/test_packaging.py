"""What a stranger installs: a wheel with configs and tools inside, version gates, and a machine without compiled ops."""

import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from helpers import ROOT, python, run_cfg, warm_python
from mmengine.config import Config

from mmsskd.distill.build import build_model, resolve_model_cfg

DOWNSTREAM = """
_base_ = 'mmsskd::sskd/digits_r14x2_r8.py'
train_dataloader = dict(dataset=dict(indices=128))
val_dataloader = dict(dataset=dict(indices=50))
model = dict(teacher_checkpoint='teacher.pth')
default_hooks = dict(stage_schedule=dict(transfer=dict(epochs=1), head=dict(epochs=1)))
"""


@pytest.fixture(scope='module')
def installed(tmp_path_factory):
    """The wheel, installed into a folder of its own; built from a copy of what git would clone."""
    if not find_spec('pip') or not find_spec('setuptools'):
        pytest.skip('needs pip and setuptools')
    folder = tmp_path_factory.mktemp('wheel')
    source = folder / 'source'
    ignore = shutil.ignore_patterns('.git', '.venv', 'work_dirs', '.mim', '*.egg-info', 'build', '__pycache__')

    def left_out(folder, names):
        """`data` at the root holds data sets; mmsskd/face/data is code."""
        return ignore(folder, names) | ({'data'} if Path(folder) == ROOT else set())

    shutil.copytree(ROOT, source, ignore=left_out)
    pip = [sys.executable, '-m', 'pip', '--quiet', '--disable-pip-version-check']
    subprocess.run([*pip, 'wheel', '--no-deps', '--no-build-isolation', '-w', folder, source], check=True)
    (wheel,) = folder.glob('*.whl')
    subprocess.run([*pip, 'install', '--no-deps', '--target', folder / 'site', wheel], check=True)
    return folder / 'site'


@pytest.mark.slow
def test_wheel_carries_configs_tools_and_index(installed):
    mim = installed / 'mmsskd/.mim'
    for name in (
        'configs/sskd/imagenet_r34_r18.py',
        'configs/sskd/metafile.yml',
        'tools/train.py',
        'tools/dist_train.sh',
    ):
        assert (mim / name).is_file(), name
    assert (mim / 'model-index.yml').read_text() == (ROOT / 'model-index.yml').read_text()
    assert (installed / 'mmsskd/py.typed').is_file()  # so that type checkers of others read our annotations


@pytest.mark.slow
def test_downstream_config_that_changes_only_the_data(installed, tmp_path):
    """Two iterations in each phase, from a foreign folder, with the train tool inside the wheel."""
    teacher = Config.fromfile(ROOT / 'configs/plain/digits_r14x2.py').model
    torch.save(build_model(resolve_model_cfg(teacher, 'teacher')).state_dict(), tmp_path / 'teacher.pth')
    (tmp_path / 'mine.py').write_text(DOWNSTREAM)
    script = (
        'import mmsskd, runpy, sys; assert mmsskd.__file__.startswith(sys.argv[1]), mmsskd.__file__; '
        "sys.argv = ['train.py', 'mine.py']; runpy.run_path(mmsskd.__path__[0] + '/.mim/tools/train.py', run_name='__main__')"
    )
    result = warm_python('-c', script, installed, cwd=tmp_path, PYTHONPATH=installed)
    assert result.returncode == 0, result.stderr
    assert 'phase 4/4 head epoch 1/1' in result.stdout
    assert (tmp_path / 'work_dirs/mine/student.pth').is_file()


def test_editable_install_serves_the_checkout():
    for name in ('configs', 'tools', 'model-index.yml'):
        link = ROOT / 'mmsskd/.mim' / name
        assert link.is_symlink() and not os.path.isabs(os.readlink(link)) and link.exists(), link


def test_plain_import_imports_neither_torch_nor_mmdet():
    result = python(
        '-c', 'import sys, mmsskd; print([m for m in sys.modules if m in ("torch", "mmdet", "mmpretrain", "mmcv.ops")])'
    )
    assert result.stdout.strip() == '[]', result.stderr


def test_requirements_and_extras_agree():
    from importlib.metadata import metadata

    requires = metadata('mmsskd').get_all('Requires-Dist')
    lines = (ROOT / 'requirements/mminstall.txt').read_text().splitlines()
    for line in (line for line in lines if not line.startswith('#')):
        assert any(requirement.startswith(line) and 'mim' in requirement for requirement in requires), line
    hard = [requirement for requirement in requires if 'extra ==' not in requirement]
    assert not any(name in requirement for requirement in hard for name in ('mm', 'torch', 'onedl'))


# -- version gates -----------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_hub_finds_register_all_modules():
    from mmsskd.utils import register_all_modules

    script = (
        'from mmsskd.utils import register_all_modules; register_all_modules(); '
        'from mmengine.registry import DATASETS, DefaultScope; '
        'print(DefaultScope.get_current_instance().scope_name, DATASETS.children["mmsskd"].module_dict.keys())'
    )
    printed = warm_python('-c', script).stdout.splitlines()[-1]
    assert printed.startswith('mmsskd ') and 'Digits' in printed and 'CIFARFiles' in printed
    register_all_modules()  # a second time does nothing


# -- without a compiler ------------------------------------------------------------------------------------------------


@pytest.fixture
def bare(tmp_path):
    """Modules as they are where no compiler built the ops of mmcv, and transformers is 5: mmcv without its extension module, and a
    stand-in. mmpretrain's multimodal models inherit from what transformers 5 has no more.
    """
    folder = tmp_path / 'bare'
    shutil.copytree(Path(find_spec('mmcv').origin).parent, folder / 'mmcv', ignore=shutil.ignore_patterns('_ext*'))
    (folder / 'transformers.py').write_text('')
    info = folder / 'transformers-5.0.0.dist-info'
    info.mkdir()
    (info / 'METADATA').write_text('Metadata-Version: 2.1\nName: transformers\nVersion: 5.0.0\n')
    return folder


TRAIN = """
import runpy, sys
for config in ('detection.py', 'classification.py'):
    sys.argv = ['train.py', config]
    try:
        runpy.run_path(TOOL, run_name='__main__')
    except SystemExit as stop:
        print(config, stop.code)
"""


@pytest.mark.slow
def test_classification_trains_without_ops_and_detection_says_what_is_missing(bare, tmp_path, teacher_path):
    """Both in one process, which imports all of it anew."""
    phases = dict(phases=[dict(train='layer1'), dict(train='head')])
    run_cfg(tmp_path / 'work', teacher_path, hook=phases).dump(tmp_path / 'classification.py')
    student = dict(student='mmdet::retinanet/retinanet_r50_fpn_1x_coco.py')
    run_cfg(tmp_path / 'other', teacher_path, **student).dump(tmp_path / 'detection.py')
    script = TRAIN.replace('TOOL', repr(str(ROOT / 'tools/train.py')))
    result = python('-c', script, cwd=tmp_path, PYTHONPATH=str(bare))
    assert result.returncode == 0 and 'detection.py 1\n' in result.stdout, result.stdout + result.stderr
    assert 'error: detection needs mmcv with compiled ops' in result.stderr and 'Traceback' not in result.stderr
    assert (tmp_path / 'work/student.pth').is_file()
