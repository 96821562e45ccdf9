"""A config of a pair from two configs of OpenMMLab: what is derived is in it, and it can be read and cut."""

import runpy

import pytest
from helpers import ROOT
from mmengine.config import Config
from tool_helpers import call

from mmsskd.distill.build import read_config_at


def make(monkeypatch, capsys, *arguments):
    code, out, error = call(monkeypatch, capsys, 'make_pair.py', *arguments)
    return code, out, error


@pytest.mark.slow
def test_classifiers(tmp_path, monkeypatch, capsys):
    """CIFAR's images are 32 pixels wide; 200 epochs by 12 for each stage; the milestones of the head at the same shares."""
    path = tmp_path / 'pair.py'
    student = 'mmpretrain::resnet/resnet18_8xb16_cifar10.py'
    code, out, error = make(monkeypatch, capsys, 'mmpretrain::resnet/resnet34_8xb16_cifar10.py', student, path)
    assert code == 0, error
    assert '200 epochs, as many as the student takes: 17 for each of 4 stages, 132 for the head' in out
    assert 'weights of the teacher: https://' in out and 'layer4' in out
    cfg = Config.fromfile(path)
    assert tuple(cfg.model.input_shape) == (3, 32, 32) and cfg.model.teacher.pretrained is True
    assert cfg.model.type == 'mmsskd.StagewiseDistiller' and 'backbone' not in cfg.model
    hook = cfg.default_hooks.stage_schedule
    assert hook.transfer.epochs == 17 and hook.head.epochs == 132
    assert hook.head.param_scheduler[0].milestones == [66, 99]
    code, out, error = call(monkeypatch, capsys, 'print_stages.py', path)
    assert code == 0 and 'layer4' in out, error
    code, _, error = make(monkeypatch, capsys, student, student, path)
    assert code == 1 and 'OUT must be a new file' in error
    code, _, error = make(monkeypatch, capsys, 'torchvision:resnet18', student, tmp_path / 'other.py')
    assert (
        code == 1
        and "is no config but teacher=dict(type='mmsskd.ExternalTeacher', build='torchvision:resnet18'" in error
    )


def test_the_size_of_an_image():
    """That of a detector whose images are all of one size; of the others 224 does."""
    input_shape = runpy.run_path(str(ROOT / 'tools/make_pair.py'), run_name='make_pair')['input_shape']
    for path, size in (('ssd/ssd300_coco.py', 300), ('retinanet/retinanet_r18_fpn_1x_coco.py', 224)):
        assert input_shape(read_config_at(f'mmdet::{path}', 'student')) == (3, size, size)


@pytest.mark.slow
def test_detectors(tmp_path, monkeypatch, capsys):
    """What mmdet's configs freeze is thawed; EMA averages the head's epochs alone; other normalization is no matter."""
    path = tmp_path / 'pair.py'
    arguments = 'mmdet::gfl/gfl_r50_fpn_1x_coco.py', 'mmdet::rtmdet/rtmdet_tiny_8xb32-300e_coco.py', path
    code, out, error = make(monkeypatch, capsys, *arguments)
    assert code == 0 and 'EMA averages the phases that learn the task: begin_epoch=101' in out, error
    assert Config.fromfile(path).custom_hooks[0].begin_epoch == 101
    path.unlink()
    arguments = 'mmdet::gfl/gfl_r50_fpn_1x_coco.py', 'mmdet::retinanet/retinanet_r18_fpn_1x_coco.py', path
    code, out, error = make(monkeypatch, capsys, *arguments, '--stages', 'layer1', 'layer4')
    assert code == 0 and 'its backbone gets frozen_stages=-1, norm_eval=False' in out, error
    model = Config.fromfile(path).model
    assert model.student.backbone == dict(frozen_stages=-1, norm_eval=False) and model.stages == ['layer1', 'layer4']


def test_paths_count_from_where_they_are_read(tmp_path, monkeypatch, capsys):
    """A base from the folder of the config that names it, the two networks from where the tools run."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'mine').mkdir()
    (tmp_path / 'mine/student.py').write_text("_base_ = 'mmsskd::plain/digits_r8.py'\n")
    (tmp_path / 'run.py').write_text("_base_ = 'mmsskd::sskd/digits_r14x2_r8.py'\n")
    code, _, error = make(monkeypatch, capsys, 'mine/student.py', 'mine/student.py', 'pairs/of/mine.py')
    assert code == 0, error
    assert Config.fromfile('pairs/of/mine.py').model.student.cfg_path == 'mine/student.py'
    for pair, key in ((['mine/student.py', 'run.py'], 'student'), (['run.py', 'mine/student.py'], 'teacher')):
        code, _, error = make(monkeypatch, capsys, *pair, 'other.py')
        assert code == 1 and f"model.{key}: 'run.py' is a whole stage-by-stage run; name the config of the" in error
