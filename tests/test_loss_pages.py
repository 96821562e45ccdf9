"""docs/losses.md and docs/migration.md: what they show runs."""

import re
import sys

import numpy as np
import pytest
import torch
from helpers import ROOT
from mmengine.config import Config
from mmengine.registry import DefaultScope

import mmsskd.distill
from mmsskd.distill.build import build_model, resolve_model_cfg, without_init
from mmsskd.distill.phases import HEAD, phases_of
from mmsskd.registry import MODELS


def blocks(page: str) -> list[str]:
    """The Python on a page."""
    return re.findall(r'```python\n(.*?)```', (ROOT / 'docs' / page).read_text(), re.S)


def test_the_loss_on_the_page(tmp_path, monkeypatch):
    """It has ten lines; the config beside it imports it; it is the divergence of the distributions of each side."""
    _, loss_text, config_text = blocks('losses.md')
    assert len(loss_text.strip().splitlines()) <= 10
    (tmp_path / 'my_losses.py').write_text(loss_text)
    (tmp_path / 'config.py').write_text(config_text)
    monkeypatch.syspath_prepend(tmp_path)
    try:
        cfg = Config.fromfile(tmp_path / 'config.py')
        loss = MODELS.build(cfg.model.mimic_loss[cfg.model.stages[-1]])
    finally:
        MODELS.module_dict.pop('LocalizationLoss', None)
        sys.modules.pop('my_losses', None)
    student, teacher = torch.randn(2, 2, 8, 3, 3, generator=torch.Generator().manual_seed(0))
    q, p = (np.exp(x.double().numpy().reshape(2, 4, 2, 3, 3)) for x in (student, teacher))
    q, p = q / q.sum(2, keepdims=True), p / p.sum(2, keepdims=True)
    expected = 0.25 * (p * np.log(p / q)).sum(2).mean()
    assert loss((student,), (teacher,)).item() == pytest.approx(expected, rel=1e-5)


def test_the_table_of_losses_is_complete():
    names = set(re.findall(r'^\| `(\w+)`', (ROOT / 'docs/losses.md').read_text(), re.M))
    assert names == {name for name in mmsskd.distill.__all__ if name.endswith('Loss')} - {'MimicLoss'}


CONFIGS = [block for block in blocks('migration.md') if 'mmdet::' in block]


@pytest.mark.slow
@pytest.mark.parametrize('text', CONFIGS, ids=lambda text: re.search(r'mmsskd\.(\w+)Loss', text)[1])
def test_a_counterpart_builds(text, tmp_path):
    """Twenty lines; both networks are cut and paired, the loss built, the phases resolved, all epochs of the plain run in them."""
    assert len(text.strip().splitlines()) <= 20
    (tmp_path / 'counterpart.py').write_text(text)
    cfg = Config.fromfile(tmp_path / 'counterpart.py')
    for side in ('teacher', 'student'):
        cfg.model[side] = thin(without_init(resolve_model_cfg(cfg.model[side], side)))
    torch.save(build_model(cfg.model.teacher).state_dict(), tmp_path / 'teacher.pth')
    cfg.model.update(teacher_checkpoint=str(tmp_path / 'teacher.pth'), input_shape=(3, 64, 64))
    with DefaultScope.overwrite_default_scope('mmdet'):
        distiller = MODELS.build(cfg.model)
    (phase,) = phases_of(cfg, list(distiller.stages))
    assert phase.length == cfg.train_cfg.max_epochs
    assert phase.mimic == tuple(distiller.stages) and phase.task_loss and HEAD in phase.train
    assert not distiller.adapters and len(distiller.stages[phase.mimic[0]].levels) >= 4


@pytest.mark.slow
@pytest.mark.parametrize(
    'text', [block for block in blocks('migration.md') if 'mmpretrain::' in block], ids=['kd', 'fitnet']
)
def test_a_counterpart_of_torchdistill_builds(text, tmp_path):
    """Its phases are the blocks of the YAML file: as many epochs, the same loss of logits, optimizer and milestones."""
    (tmp_path / 'counterpart.py').write_text(text)
    cfg = Config.fromfile(tmp_path / 'counterpart.py')
    cfg.model.teacher = without_init(resolve_model_cfg(cfg.model.teacher, 'teacher'))
    cfg.model.teacher.backbone.depth = 50 if cfg.model.teacher.backbone.depth > 50 else 18
    torch.save(build_model(cfg.model.teacher).state_dict(), tmp_path / 'teacher.pth')
    cfg.model.update(teacher_checkpoint=str(tmp_path / 'teacher.pth'), input_shape=(3, 64, 64))
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        distiller = MODELS.build(cfg.model)
    *transfer, last = phases_of(cfg, list(distiller.stages))
    assert last.length == 20 - 5 * len(transfer)
    assert last.logits and last.task_loss and last.task_weight == distiller.logits_loss.loss_weight == 0.5
    assert last.optim_wrapper['optimizer'] == dict(type='SGD', lr=0.0001, momentum=0.9, weight_decay=0.0005)
    for phase in transfer:
        assert (phase.train, phase.mimic, phase.length) == (('layer1',), ('layer1',), 5)
        assert 'layer1' in distiller.adapters


def thin(model: dict) -> dict:
    """Eight blocks and a small RoI head: quick to build, with the same necks and heads."""
    model.backbone.update(type='ResNet', depth=18)
    for key in ('groups', 'base_width'):
        model.backbone.pop(key, None)
    model.neck.in_channels = [64, 128, 256, 512]
    if 'roi_head' in model:
        model.roi_head.bbox_head.fc_out_channels = 16
    return model
