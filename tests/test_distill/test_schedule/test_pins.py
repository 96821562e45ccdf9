"""What a run depends on is in its checkpoints: of what has changed on resume nothing goes unnoticed, and an export uses it."""

import copy
from pathlib import Path

import pytest
import torch
from helpers import classifier, loader, run_cfg, save_weights, train
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from mmsskd import StageScheduleHook
from mmsskd.distill.export import export_checkpoint
from mmsskd.errors import ConfigError

PHASES = [dict(train='layer1', epochs=2), dict(train='head', epochs=2)]


def cfg_of(work_dir, teacher_path):
    return run_cfg(work_dir, teacher_path, hook=dict(phases=copy.deepcopy(PHASES)))


@pytest.fixture(scope='module')
def whole(tmp_path_factory, teacher_path):
    folder = tmp_path_factory.mktemp('whole')
    train(cfg_of(folder, teacher_path))
    return folder


def resume(cfg, checkpoint) -> str:
    """Go on from a checkpoint; returns the log."""
    cfg.resume, cfg.load_from = True, str(checkpoint)
    train(cfg)
    return next(Path(cfg.work_dir).glob('*/*.log')).read_text()


def other_teacher(cfg):
    cfg.model.teacher_checkpoint = save_weights(classifier(), Path(cfg.work_dir).parent / 'other.pth', seed=1)


@pytest.mark.parametrize(
    ('change', 'words'),
    [
        (other_teacher, r'model.teacher_checkpoint holds other weights \(sha256 \w+\)'),
        (
            lambda cfg: cfg.model.update(mimic_loss=dict(type='mmsskd.CosineMimicLoss')),
            r'model.mimic_loss is \{.*was None',
        ),
        (lambda cfg: cfg.model.student.head.update(cal_acc=True), 'model.student.head.cal_acc is True, was None'),
        (lambda cfg: cfg.model.teacher.head.update(topk=(1, 5)), r'model.teacher.head.topk is \(1, 5\), was \(1,\)'),
        (
            lambda cfg: cfg.train_dataloader.update(batch_size=16),
            r'phase 1 \(layer1\): a step takes 16 images.*took 32',
        ),
        (
            lambda cfg: cfg.train_dataloader.dataset.update(indices=48),
            r'phase 1 .*dataset\[0\].images is 48, was 96. An epoch has 2 batches, had 3',
        ),
    ],
    ids=['teacher', 'loss', 'student', 'teacher_config', 'batch', 'data'],
)
def test_another_run_is_refused(whole, tmp_path, teacher_path, change, words):
    cfg = cfg_of(tmp_path / 'cut', teacher_path)
    change(cfg)
    with pytest.raises(ConfigError, match=words):
        resume(cfg, whole / 'epoch_1.pth')
    assert not list(tmp_path.glob('cut/*.pth'))


def test_a_phase_that_was_not_reached_may_have_another_batch(whole, tmp_path, teacher_path):
    cfg = cfg_of(tmp_path, teacher_path)
    cfg.default_hooks.stage_schedule.phases[1].train_dataloader = loader(batch_size=16)
    log = resume(cfg, whole / 'epoch_2.pth')
    assert 'train_dataloader' not in log and 'batch' not in log


def test_other_data_of_the_same_length_and_other_ranks_are_said(whole, tmp_path, teacher_path):
    cfg = cfg_of(tmp_path / 'cut', teacher_path)
    cfg.train_dataloader.dataset.indices = 95
    checkpoint = torch.load(whole / 'epoch_1.pth', weights_only=False)
    checkpoint['pins']['ranks'] = 2
    torch.save(checkpoint, tmp_path / 'two.pth')
    log = resume(cfg, tmp_path / 'two.pth')
    assert '1 ranks, the checkpoint was written by 2' in log
    said = [line for line in log.splitlines() if 'dataset[0].images is 95, was 96; the run goes on with them' in line]
    assert len(said) == 2 and 'warnings: (1)' in said[1]  # once, and in the summary at the end


def test_with_other_validation_images_the_teacher_is_measured_anew(whole, tmp_path, teacher_path):
    cfg = cfg_of(tmp_path, teacher_path)
    cfg.val_dataloader.dataset.indices = 20
    runner_of = {}

    @HOOKS.register_module(force=True)
    class Spy(Hook):
        def before_train_epoch(self, runner):
            runner_of['metrics'] = dict(runner.message_hub.get_info('teacher_metrics'))

    cfg.custom_hooks = [dict(type='Spy')]
    log = resume(cfg, whole / 'epoch_3.pth')
    kept = torch.load(whole / 'epoch_3.pth', weights_only=False)['message_hub']['runtime_info']['teacher_metrics']
    assert 'val_dataloader: ' in log and 'images is 20, was 50; its scores so far are dropped' in log
    assert runner_of['metrics'] != kept


def test_pins_are_plain_data(whole, tmp_path):
    pins = torch.load(whole / 'epoch_1.pth', weights_only=False)['pins']
    torch.save(pins, tmp_path / 'pins.pth')
    assert torch.load(tmp_path / 'pins.pth', weights_only=True) == pins
    assert pins['ranks'] == 1 and [phase['batch'] for phase in pins['phases']] == [32, 32]


def test_checkpoints_from_before_there_were_pins(whole, tmp_path, teacher_path):
    checkpoint = torch.load(whole / 'epoch_3.pth', weights_only=False)
    del checkpoint['pins']
    torch.save(checkpoint, tmp_path / 'old.pth')
    assert 'says nothing of teacher, losses, batch' in resume(
        cfg_of(tmp_path / 'cut', teacher_path), tmp_path / 'old.pth'
    )
    export_checkpoint(str(tmp_path / 'old.pth'), str(tmp_path / 'out'))
    assert Config.fromfile(tmp_path / 'out/student.py').model == Config.fromfile(whole / 'student.py').model


@HOOKS.register_module()
class Meddler(Hook):
    """Edits the file of the student's config while the run trains; or the config that is to be exported."""

    def __init__(self, path=None):
        self.path = path

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if self.path is not None:
            file = Path(self.path)
            file.write_text(file.read_text().replace("'topk': (1,)", "'topk': (3,)"))
            return
        hook = next(hook for hook in runner.hooks if isinstance(hook, StageScheduleHook))
        hook.pins['student_config']['model']['data_preprocessor']['std'] = [120.0]


def test_a_config_file_edited_during_the_run_changes_no_export(tmp_path, teacher_path):
    own = tmp_path / 'own.py'
    own.write_text(f"default_scope = 'mmpretrain'\nmodel = {classifier(depth=8)}\n")
    cfg = run_cfg(tmp_path / 'run', teacher_path, student=str(own), hook=dict(phases=[dict(train='head')]))
    cfg.custom_hooks = [dict(type='Meddler', path=str(own))]
    train(cfg)
    export_checkpoint(str(tmp_path / 'run/epoch_1.pth'), str(tmp_path / 'out'))
    for folder in ('run', 'out'):
        assert Config.fromfile(tmp_path / folder / 'student.py').model.head.topk == (1,)
    assert '(3,)' in own.read_text()


def test_what_was_written_must_answer_as_the_student_in_memory(tmp_path, teacher_path):
    cfg = run_cfg(tmp_path, teacher_path, hook=dict(phases=[dict(train='head')]), custom_hooks=[dict(type='Meddler')])
    with pytest.raises(ConfigError, match=r'not the one that was trained: on the same images its answers differ'):
        Runner.from_cfg(cfg).train()
    assert not (tmp_path / 'student.pth').exists() and not (tmp_path / 'student.py').exists()
    assert (tmp_path / 'student.not_valid.pth').is_file() and (tmp_path / 'student.not_valid.py').is_file()
    assert not list(tmp_path.glob('*.part*'))
