"""A foreign folder inherits the flagship config in ten lines, in both of MMEngine's forms, and trains with it."""

import os
import re

import pytest
import torch
from helpers import ROOT, warm_python, weights
from mmengine.config import Config
from mmengine.utils import get_installed_path

from mmsskd.distill.build import build_model, resolve_model_cfg, without_init

pytestmark = pytest.mark.slow

PAGE = (ROOT / 'docs/own_data.md').read_text()
BLOCKS = re.findall(r'```python\n(.*?)```', PAGE, re.S)
TEXT, PYTHON = (
    next(block for block in BLOCKS if start in block)
    for start in ("_base_ = 'mmsskd::sskd/faster_rcnn_r101_r50.py'", 'from mmsskd.configs.sskd.faster_rcnn_r101_r50')
)


def plain(value):
    """Without the scopes that inheritance writes, the only difference that the two forms may have."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items() if key != '_scope_'}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return value


def test_both_forms_of_the_flagship_are_the_same():
    text = plain(Config.fromfile(ROOT / 'configs/sskd/faster_rcnn_r101_r50.py').to_dict())
    python_form = plain(Config.fromfile(ROOT / 'mmsskd/configs/sskd/faster_rcnn_r101_r50.py').to_dict())
    text.pop('dataset_type')  # a name that mmdet's file uses within itself
    assert text.pop('param_scheduler')  # of the 1x, which the head's own replaces
    assert python_form == text


@pytest.fixture(scope='module')
def project(photos, tmp_path_factory):
    """A folder with data as the page's config wants it, and the weights of a teacher."""
    folder = tmp_path_factory.mktemp('project')
    (folder / 'mine').mkdir()
    (folder / 'mine/photos').symlink_to(photos)
    cfg = resolve_model_cfg(dict(cfg_path='mmdet::faster_rcnn/faster-rcnn_r101_fpn_1x_coco.py'), 'teacher')
    teacher = Config(dict(model=without_init(cfg)))
    teacher.merge_from_dict({f'model.{key}': value for key, value in NARROW.items()})
    torch.manual_seed(0)
    torch.save(build_model(teacher.model).state_dict(), folder / 'teacher.pth')
    return folder


# to be quick: test_pairs.py trains these networks as they stand
NARROW = {
    'backbone.depth': 18, 'backbone.base_channels': 16, 'neck.in_channels': [16, 32, 64, 128],
    'roi_head.bbox_head.fc_out_channels': 32,
    'train_cfg.rpn_proposal.max_per_img': 20, 'train_cfg.rcnn.sampler.num': 16, 'test_cfg.rpn.max_per_img': 20,
}  # fmt: skip
BOTH_NARROW = [
    f'model.{side}.{key}={value}'.replace(' ', '') for side in ('teacher', 'student') for key, value in NARROW.items()
]
# what a test must change: the size of the images, the length, weights that would be fetched
SMALL = [
    *BOTH_NARROW,
    'model.teacher_checkpoint=teacher.pth',
    'model.student.backbone.init_cfg=None',
    'train_dataloader.num_workers=0', 'train_dataloader.persistent_workers=False',
    'val_dataloader.num_workers=0', 'val_dataloader.persistent_workers=False',
    'default_hooks.stage_schedule.head.epochs=1', 'model.stages=[layer4,neck]',
    'train_dataloader.dataset.pipeline.2.scale=(96,96)', 'val_dataloader.dataset.pipeline.1.scale=(96,96)',
    'default_hooks.stage_schedule.evaluate_teacher=False', 'default_hooks.stage_schedule.transfer.epochs=1',
    'default_hooks.stage_schedule.save_phase_ends=False', 'default_hooks.checkpoint.interval=3',
]  # fmt: skip


@pytest.mark.parametrize(('name', 'block'), [('text', TEXT), ('python', PYTHON)])
def test_ten_lines_in_a_foreign_folder(project, name, block):
    lines = [line for line in block.splitlines() if line.strip() and not line.lstrip().startswith('#')]
    assert len(lines) <= 16
    (project / f'mine/{name}.py').write_text(block)
    options = ('--work-dir', name, '--cfg-options', *SMALL)
    result = warm_python(ROOT / 'tools/train.py', f'mine/{name}.py', *options, cwd=project)
    assert result.returncode == 0, result.stderr[-3000:]
    student = weights(project / name / 'student.pth')
    assert len(student['roi_head.bbox_head.fc_cls.weight']) == 11  # the classes of the config and the background
    options = ['--work-dir', 'test', '--teacher', '--cfg-options', 'model.teacher_checkpoint=teacher.pth']
    options += ['test_dataloader.num_workers=0', 'test_dataloader.persistent_workers=False']
    options += ['test_dataloader.dataset.pipeline.1.scale=(96,96)', 'model.stages=[layer4,neck]', *BOTH_NARROW]
    result = warm_python(ROOT / 'tools/test.py', f'mine/{name}.py', f'{name}/epoch_3.pth', *options, cwd=project)
    assert result.returncode == 0, result.stderr[-3000:]
    assert 'teacher: not measured, roi_head.bbox_head for 80 classes, the data set has 10' in result.stdout
    assert 'student: ' in result.stdout
    cfg = Config.fromfile(project / name / 'student.py')
    assert 'mmsskd' not in cfg.pretty_text
    assert cfg.train_dataloader.dataset.metainfo.classes == cfg.val_dataloader.dataset.metainfo.classes


def test_pure_python_form_with_mmdets_own_train_tool(project):
    """No `import mmsskd` comes before the config there; that is what the form is for."""
    (project / 'mine/python.py').write_text(PYTHON)
    stock = os.path.join(get_installed_path('mmdet'), '.mim/tools/train.py')
    options = ['--work-dir', 'stock', '--cfg-options', *SMALL]
    result = warm_python(stock, 'mine/python.py', *options, cwd=project)
    assert result.returncode == 0, result.stderr[-3000:]
    assert (project / 'stock/student.pth').is_file()
