"""A teacher with features and no predictions: without a head, or self-supervised."""

import pytest
from distill_helpers import build
from helpers import classifier, run_cfg, save_weights, train

from mmsskd.errors import ConfigError

HEADLESS = dict(classifier(), head=None)
SIMCLR = dict(
    type='mmpretrain.SimCLR',
    data_preprocessor=dict(type='mmpretrain.SelfSupDataPreprocessor', mean=[127.5], std=[127.5]),
    backbone=classifier()['backbone'],
    neck=dict(type='mmpretrain.NonLinearNeck', in_channels=32, hid_channels=8, out_channels=4, num_layers=2),
    head=dict(type='mmpretrain.ContrastiveHead', loss=dict(type='mmpretrain.CrossEntropyLoss'), temperature=0.1),
)
TEACHERS = {'ImageClassifier has no head': HEADLESS, 'SimCLR is self-supervised': SIMCLR}


@pytest.mark.parametrize('reason', TEACHERS)
def test_it_teaches_and_is_not_measured_which_is_said_once(tmp_path, reason):
    teacher = TEACHERS[reason]
    path = save_weights(teacher, tmp_path / 'teacher.pth')
    runner = train(run_cfg(tmp_path / 'run', path, teacher=teacher))
    log = next((tmp_path / 'run').glob('*/*.log')).read_text()
    assert log.count('WARNING - the teacher is not evaluated') == 1
    assert f'the teacher is not evaluated: {reason}, it has features but no predictions; its features serve' in log
    assert 'teacher_metrics' not in runner.message_hub.runtime_info
    assert runner.message_hub.get_scalar('val/accuracy/top1').current() > 0
    assert (tmp_path / 'run/student.pth').is_file()


@pytest.mark.parametrize('reason', TEACHERS)
@pytest.mark.parametrize('option', [dict(logits='head.fc'), dict(init_from_teacher='head')])
def test_what_needs_its_head_is_refused(tmp_path, reason, option):
    path = save_weights(TEACHERS[reason], tmp_path / 'teacher.pth')
    (key,) = option
    with pytest.raises(ConfigError, match=f'^model.{key}=.*the teacher has neither head nor logits to give: {reason}'):
        build(path, teacher=TEACHERS[reason], **option)


@pytest.mark.parametrize('reason', TEACHERS)
def test_a_projector_needs_its_head(tmp_path, reason):
    path = save_weights(TEACHERS[reason], tmp_path / 'teacher.pth')
    with pytest.raises(ConfigError, match=f"^model.projector: behind it stands the teacher's head, but {reason}"):
        build(path, teacher=TEACHERS[reason], projector=dict(type='mmsskd.BottleneckProjector'))
