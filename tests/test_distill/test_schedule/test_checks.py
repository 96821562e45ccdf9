"""What is refused of a run, beside its phases and its data, before it trains."""

import pytest
import torch
from helpers import run_cfg, train
from mmengine.runner import Runner

from mmsskd.distill.schedule import checks, hook
from mmsskd.distill.schedule.data_checks import DataChecks
from mmsskd.errors import ConfigError


def plain(cfg):
    """The same run without any distillation."""
    cfg.model, cfg.train_cfg = cfg.model.student, dict(by_epoch=True, max_epochs=1)
    cfg.default_hooks.pop('stage_schedule')
    runner = Runner.from_cfg(cfg)
    runner.register_hook(DataChecks())
    runner.train()


@pytest.mark.parametrize('kind', [train, plain])
def test_weights_of_load_from_that_do_not_fit(tmp_path, teacher_path, kind):
    """MMEngine loads what fits, were it nothing, and only logs the rest."""
    state = torch.load(teacher_path)['state_dict']
    files = dict(
        none={f'model.{name}': value for name, value in state.items()},
        few={name: value for name, value in state.items() if 'layer1.0' in name},
    )
    for name, weights in files.items():
        torch.save(dict(state_dict=weights), tmp_path / f'{name}.pth')
    cfg = run_cfg(tmp_path / 'none', teacher_path, load_from=str(tmp_path / 'none.pth'))
    with pytest.raises(
        ConfigError, match=r'none.pth\': 0 of the \d+ tensors .*has model.backbone.*model has (adap|back)'
    ):
        kind(cfg)
    assert not list(tmp_path.glob('none/*.pth'))
    cfg = run_cfg(tmp_path / 'few', teacher_path, load_from=str(tmp_path / 'few.pth'))
    kind(cfg)
    assert 'only 12 of the' in next(tmp_path.glob('few/*/*.log')).read_text()


def test_a_phase_that_trains_what_has_no_parameters(tmp_path, teacher_path):
    """As with a classifier within the backbone, VGG's for instance: it belongs to the last stage."""
    cfg = run_cfg(tmp_path, teacher_path)
    cfg.model.student.head = dict(type='ClsHead', loss=dict(type='CrossEntropyLoss'))
    with pytest.raises(ConfigError, match=r'phase 4 \(head\): there is no parameter in what it trains \(head\)'):
        train(cfg)


@pytest.mark.parametrize(('factor', 'phases', 'said'), [(5, None, False), (0, None, True), (0, 'sskd_then_all', False)])
def test_what_is_known_of_far_smaller_students_is_said(tmp_path, teacher_path, monkeypatch, factor, phases, said):
    monkeypatch.setattr(checks, 'FAR_SMALLER', factor)
    cfg = run_cfg(tmp_path, teacher_path, log_level='INFO')
    cfg.default_hooks.stage_schedule.phases = phases
    monkeypatch.setattr(hook, 'check_teacher', None)  # where it would begin to train
    with pytest.raises(TypeError):
        train(cfg)
    assert ('such a schedule lost: 66.9 on CIFAR-100' in next(tmp_path.glob('*/*.log')).read_text()) == said
