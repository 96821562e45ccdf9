"""A resumed run ends with the weights of the uninterrupted one, to the bit, wherever it was cut; augmentation included."""

import copy
import os
import shutil
import signal
from pathlib import Path

import mmengine.runner.runner
import pytest
import torch
from helpers import classifier, loader, run_cfg, same, save_weights, train, weights
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.logging import MMLogger
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from tool_helpers import call, write

from mmsskd import StageScheduleHook
from mmsskd.distill.export import export_checkpoint
from mmsskd.distill.schedule.resume import begin_epoch_anew, ignore_signals_no_more
from mmsskd.errors import ConfigError
from mmsskd.utils.work_dir import release

PHASES = [dict(train='layer1'), dict(train='layer2'), dict(train='head')]


def cfg_of(work_dir, teacher_path, iters, **hook):
    """Phases of two epochs, or of four iterations; a checkpoint after each."""
    cfg = run_cfg(work_dir, teacher_path, iters=iters, hook=dict(phases=[dict(phase) for phase in PHASES], **hook))
    length = dict(epochs=2) if iters is None else dict(iters=iters)
    momentum = dict(optimizer=dict(type='SGD', lr=0.05, momentum=0.9))
    cosine = dict(type='CosineAnnealingLR', by_epoch=iters is None, eta_min=0.001)
    recipe = dict(optim_wrapper=momentum, param_scheduler=[cosine])
    cfg.default_hooks.stage_schedule.update(transfer=dict(length, **recipe), head=dict(length, **recipe))
    return cfg


@pytest.fixture(scope='module')
def whole(tmp_path_factory, teacher_path):
    """Uninterrupted runs, epoch- and iteration-based."""
    folders = {}
    for kind, iters in (('epoch', None), ('iter', 4)):
        folders[kind] = tmp_path_factory.mktemp(kind)
        train(cfg_of(folders[kind], teacher_path, iters))
    return folders


def resume(cfg, checkpoint):
    cfg.resume, cfg.load_from = True, str(checkpoint)
    return train(cfg)


@pytest.mark.slow
@pytest.mark.parametrize('cut', [1, 2, 3, 4, 5])
def test_epochs(whole, tmp_path, teacher_path, cut):
    """Boundaries at 2 and 4; cut one before, at and one after them."""
    resume(cfg_of(tmp_path, teacher_path, None), whole['epoch'] / f'epoch_{cut}.pth')
    for last in range(cut + 1, 7):
        assert same(weights(whole['epoch'] / f'epoch_{last}.pth'), weights(tmp_path / f'epoch_{last}.pth')), last
    assert same(weights(whole['epoch'] / 'student.pth'), weights(tmp_path / 'student.pth'))
    assert (
        'resumed key' not in next(tmp_path.glob('*/*.log')).read_text()
    )  # MMEngine's warning of a key without a value


@pytest.mark.slow
@pytest.mark.parametrize('cut', [3, 4, 5, 8, 9])
def test_iterations(whole, tmp_path, teacher_path, cut):
    """Boundaries at 4 and 8."""
    resume(cfg_of(tmp_path, teacher_path, 4), whole['iter'] / f'iter_{cut}.pth')
    for last in range(cut + 1, 13):
        assert same(weights(whole['iter'] / f'iter_{last}.pth'), weights(tmp_path / f'iter_{last}.pth')), last


@pytest.mark.slow
def test_iterations_over_a_finite_sampler_and_a_loader_of_the_phase(tmp_path, teacher_path):
    """Three batches an epoch: the resumed run must come in at the right batch of the right epoch of both loaders."""

    def cfg(folder):
        cfg = cfg_of(folder, teacher_path, 4)
        cfg.train_dataloader = loader()
        cfg.default_hooks.stage_schedule.phases[1].train_dataloader = loader(count=64, batch_size=16)
        return cfg

    train(cfg(tmp_path / 'whole'))
    resume(cfg(tmp_path / 'cut'), tmp_path / 'whole' / 'iter_6.pth')
    assert same(weights(tmp_path / 'whole' / 'iter_12.pth'), weights(tmp_path / 'cut' / 'iter_12.pth'))


@pytest.mark.slow
def test_from_the_checkpoint_of_a_phase_end(whole, tmp_path, teacher_path):
    resume(cfg_of(tmp_path, teacher_path, None), whole['epoch'] / 'phase2_layer2.pth')
    assert not (tmp_path / 'epoch_4.pth').exists()
    assert same(weights(whole['epoch'] / 'epoch_6.pth'), weights(tmp_path / 'epoch_6.pth'))


@pytest.mark.slow
def test_automatic_resume_of_the_latest_checkpoint(whole, tmp_path, teacher_path):
    shutil.copy(whole['epoch'] / 'epoch_3.pth', tmp_path)
    (tmp_path / 'last_checkpoint').write_text(str(tmp_path / 'epoch_3.pth'))
    cfg = cfg_of(tmp_path, teacher_path, None)
    cfg.resume = True
    train(cfg)
    assert same(weights(whole['epoch'] / 'epoch_6.pth'), weights(tmp_path / 'epoch_6.pth'))


@pytest.mark.slow
def test_finished_run(whole, tmp_path, teacher_path):
    resume(cfg_of(tmp_path, teacher_path, None), whole['epoch'] / 'epoch_6.pth')
    assert same(weights(whole['epoch'] / 'student.pth'), weights(tmp_path / 'student.pth'))


@pytest.mark.slow
def test_teacher_is_not_measured_again(whole, tmp_path, teacher_path):
    runner = resume(cfg_of(tmp_path, teacher_path, None), whole['epoch'] / 'epoch_3.pth')
    assert runner.message_hub.get_info('teacher_metrics')
    scalars = ''.join(path.read_text() for path in tmp_path.glob('*/vis_data/*.json'))
    assert 'teacher/' not in scalars


@pytest.mark.slow
@pytest.mark.parametrize('iters', [None, 4])
def test_seed_of_the_checkpoint_holds_when_the_config_has_none(tmp_path, teacher_path, iters):
    cut, last = ('epoch_3.pth', 'epoch_6.pth') if iters is None else ('iter_6.pth', 'iter_12.pth')
    cfg = cfg_of(tmp_path / 'whole', teacher_path, iters)
    cfg.randomness.seed = None
    train(cfg)
    cfg = cfg_of(tmp_path / 'cut', teacher_path, iters)
    cfg.randomness.seed = None
    resume(cfg, tmp_path / 'whole' / cut)
    assert same(weights(tmp_path / 'whole' / last), weights(tmp_path / 'cut' / last))


@pytest.mark.slow
@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (lambda s: s.phases[0].update(epochs=1), r'Phase 1: length is 1, was 2'),
        (
            lambda s: s.phases[1].update(train='stages', mimic='stages'),
            r"Phase 2: .*train is \['layer1', 'layer2', 'layer3'\], was",
        ),
        (lambda s: s.transfer.optim_wrapper.optimizer.update(lr=0.01), r'Phase 1: optimizer is .*0.01.*, was .*0.05'),
        (
            lambda s: s.update(phases=[dict(train='layer2'), dict(train='head')]),
            r"Phase 1: name is 'layer2', was 'layer1'",
        ),
    ],
)
def test_changed_schedule_is_an_error(whole, tmp_path, teacher_path, change, message):
    cfg = cfg_of(tmp_path, teacher_path, None)
    change(cfg.default_hooks.stage_schedule)
    with pytest.raises(ConfigError, match=f'the schedule has changed since the checkpoint was written. {message}'):
        resume(cfg, whole['epoch'] / 'epoch_3.pth')


@pytest.mark.slow
def test_phases_that_were_not_reached_may_change(whole, tmp_path, teacher_path):
    cfg = cfg_of(tmp_path, teacher_path, None)
    cfg.default_hooks.stage_schedule.phases = [*PHASES[:2], dict(train='layer3', epochs=1), dict(train='all', epochs=1)]
    runner = resume(cfg, whole['epoch'] / 'epoch_4.pth')
    assert runner.epoch == 6


@pytest.mark.slow
@pytest.mark.parametrize(('iters', 'cuts', 'last'), [(None, [1, 2, 3], 'epoch_6'), (4, [3, 5], 'iter_12')])
def test_within_a_window_of_gradient_accumulation(tmp_path, teacher_path, iters, cuts, last):
    """Windows of two; an epoch has three iterations, so each other epoch, and iterations 3 and 5, end within one."""

    def cfg(folder):
        cfg = cfg_of(tmp_path / folder, teacher_path, iters)
        for recipe in (cfg.default_hooks.stage_schedule.transfer, cfg.default_hooks.stage_schedule.head):
            recipe.optim_wrapper.accumulative_counts = 2
        return cfg

    train(cfg('whole'))
    for cut in cuts:
        resume(cfg(f'cut{cut}'), tmp_path / 'whole' / f'{last.split("_")[0]}_{cut}.pth')
        assert same(weights(tmp_path / f'whole/{last}.pth'), weights(tmp_path / f'cut{cut}/{last}.pth')), cut


@pytest.mark.slow
def test_a_checkpoint_within_an_epoch_begins_the_epoch_anew(tmp_path, teacher_path, capsys):
    cfg = cfg_of(tmp_path / 'whole', teacher_path, None)
    cfg.default_hooks.checkpoint.update(by_epoch=False)
    train(cfg)
    runner = resume(cfg_of(tmp_path / 'cut', teacher_path, None), tmp_path / 'whole/iter_8.pth')
    assert runner.iter == runner.max_iters == 18
    assert 'taken within epoch 3, which begins anew' in ''.join(p.read_text() for p in tmp_path.glob('cut/*/*.log'))


@pytest.mark.parametrize(('iteration', 'kept'), [(8, 0), (6, 1)])
def test_gradients_of_an_epoch_that_begins_anew_are_dropped(iteration, kept):
    checkpoint = dict(meta=dict(epoch=2, iter=iteration), stage_schedule=dict(gradients={'layer': torch.ones(1)}))
    begin_epoch_anew(checkpoint, 6, MMLogger.get_current_instance())
    assert checkpoint['meta']['iter'] == 6 and len(checkpoint['stage_schedule']['gradients']) == kept


@pytest.mark.slow
def test_another_student_or_another_kind_of_loop_is_an_error(whole, tmp_path, teacher_path):
    cfg = cfg_of(tmp_path, teacher_path, None)
    cfg.model.student = classifier(depth=14)
    with pytest.raises(
        ConfigError, match=r'does not fit the student of this run.\n  missing \(\d+\): backbone.layer1.1'
    ):
        resume(cfg, whole['epoch'] / 'epoch_3.pth')
    with pytest.raises(ConfigError, match='of a run that counts epochs, this one counts iterations'):
        resume(cfg_of(tmp_path, teacher_path, 4), whole['epoch'] / 'epoch_3.pth')


def test_checkpoint_of_another_kind_of_run(tmp_path, teacher_path):
    torch.save(dict(state_dict={}, meta=dict(epoch=1, iter=3), message_hub={}), tmp_path / 'plain.pth')
    with pytest.raises(ConfigError, match='was not written by a stage-by-stage run'):
        resume(cfg_of(tmp_path, teacher_path, None), tmp_path / 'plain.pth')


class Die(Exception):
    """In place of a kill."""


@HOOKS.register_module()
class DieBeforeValidation(Hook):
    def __init__(self, at):
        self.at = at

    def before_val(self, runner):
        if self.at in (runner.epoch, runner.iter):
            raise Die


def keeping_best(work_dir, teacher_path, iters=None, die_at=None):
    """A phase without and two with a task metric; one checkpoint and the best are kept."""
    lengths = [dict(epochs=n) if iters is None else dict(iters=iters) for n in (1, 3, 2)]
    phases = [dict(train=train, **length) for train, length in zip(('layer1', 'all', 'head'), lengths)]
    cfg = cfg_of(work_dir, teacher_path, iters)
    cfg.default_hooks.stage_schedule.update(phases=phases, evaluate_teacher=False)
    cfg.default_hooks.stage_schedule.head.optim_wrapper.optimizer = dict(type='Adam', lr=0.01)
    cfg.default_hooks.checkpoint.update(max_keep_ckpts=1, save_best='confidence', rule='greater')
    cfg.val_evaluator = dict(type='Confidence')
    if iters is not None:
        cfg.train_cfg.val_interval = 2
    if die_at is not None:
        cfg.custom_hooks = [dict(type='DieBeforeValidation', at=die_at)]
    return cfg


def bests(folder):
    """Names and weights of the best checkpoints, and the score that the last checkpoint of all holds."""
    best = {path.name: weights(path) for path in sorted(folder.glob('best_*.pth'))}
    (last,) = [*folder.glob('epoch_*.pth'), *folder.glob('iter_*.pth')]
    last = torch.load(last, weights_only=False)
    return best, last['message_hub']['runtime_info']['best_score']


@pytest.fixture(scope='module')
def kept(tmp_path_factory, teacher_path):
    """An uninterrupted run that keeps one checkpoint and the best, and what lay in its folder when each file was written."""
    folder, seen = tmp_path_factory.mktemp('kept') / 'run', []
    with pytest.MonkeyPatch.context() as patch:

        def save(checkpoint, path, **options):
            seen.append((Path(path).name, sorted(each.name for each in folder.glob('*.pth'))))
            write(checkpoint, path, **options)

        write = mmengine.runner.runner.save_checkpoint
        patch.setattr('mmengine.runner.runner.save_checkpoint', save)
        train(keeping_best(folder, teacher_path))
    return folder, seen


def test_nothing_is_removed_before_its_successor_is_there(kept):
    folder, seen = kept
    for kind in ('epoch_', 'best_'):
        written = [number for number, (name, _) in enumerate(seen) if name.startswith(kind)]
        assert len(written) > 3  # some of them within a phase
        for _, there in seen[written[0] + 1 :]:
            assert any(name.startswith(kind) for name in there)
    assert not any(name in there for name, there in seen)  # nor written where it is to be
    assert len(list(folder.glob('epoch_*.pth'))) == 1 and not list(folder.glob('*.part*'))


@pytest.mark.parametrize('die_at', [pytest.param(3, marks=pytest.mark.slow), 4, 6])
def test_a_validation_that_was_due_is_made_up(kept, tmp_path, teacher_path, die_at):
    """Within a phase, at its end, at the end of the run; and the work dir is moved meanwhile."""
    with pytest.raises(Die):
        train(keeping_best(tmp_path / 'run', teacher_path, die_at=die_at))
    (tmp_path / f'run/epoch_{die_at}.pth.0123abcd.part').write_text('half')
    (tmp_path / 'run').rename(tmp_path / 'moved')
    cfg = keeping_best(tmp_path / 'moved', teacher_path)
    cfg.resume = True
    train(cfg)
    (best, score), (expected, expected_score) = bests(tmp_path / 'moved'), bests(kept[0])
    assert list(best) == list(expected) and score == expected_score
    assert all(same(best[name], expected[name]) for name in best)
    files = {path.name for path in (tmp_path / 'moved').iterdir() if path.is_file()} - {'last_checkpoint'}
    assert {name for name in files if name.endswith(('pth', 'part'))} == {path.name for path in kept[0].glob('*.pth')}


@pytest.mark.slow
def test_a_validation_that_was_due_is_made_up_in_iterations(tmp_path, teacher_path):
    train(keeping_best(tmp_path / 'whole', teacher_path, 4))
    with pytest.raises(Die):
        train(keeping_best(tmp_path / 'cut', teacher_path, 4, die_at=8))
    cfg = keeping_best(tmp_path / 'cut', teacher_path, 4)
    cfg.resume = True
    train(cfg)
    (best, score), (expected, expected_score) = bests(tmp_path / 'cut'), bests(tmp_path / 'whole')
    assert list(best) == list(expected) and score == expected_score


def test_a_validation_that_was_done_is_not_made_up(kept, tmp_path, teacher_path):
    folder = shutil.copytree(kept[0], tmp_path / 'run')
    cfg = keeping_best(folder, teacher_path)
    cfg.resume = True
    (folder / 'last_checkpoint').write_text('')  # as a kill leaves it
    validated = torch.load(folder / 'epoch_6.pth', weights_only=False)['validated']
    train(cfg)
    scores = max(folder.glob('*/vis_data')) / 'scalars.json'
    assert scores.is_file() == (validated != 6)  # the last one was the best, and the checkpoint saved again
    assert 'last_checkpoint names no file: going on from' in max(folder.glob('*/*.log')).read_text()


@pytest.mark.slow
@pytest.mark.parametrize('named', [False, True])
def test_half_a_checkpoint_is_not_gone_on_from(whole, tmp_path, teacher_path, named):
    """The newest whole one before it is taken, whether MMEngine finds the broken one or the user named it."""
    for number in (2, 3):
        shutil.copy(whole['epoch'] / f'epoch_{number}.pth', tmp_path)
    broken = tmp_path / 'epoch_3.pth'
    broken.write_bytes(broken.read_bytes()[:-100])
    (tmp_path / 'last_checkpoint').write_text(str(broken))
    cfg = cfg_of(tmp_path, teacher_path, None)
    cfg.resume, cfg.load_from = True, str(broken) if named else None
    train(cfg)
    assert f'{broken} is not whole' in next(tmp_path.glob('*/*.log')).read_text()
    assert same(weights(whole['epoch'] / 'epoch_6.pth'), weights(tmp_path / 'epoch_6.pth'))


# -- pins: of what a run depends on, nothing that has changed on resume goes unnoticed ---------------------------------


TWO_PHASES = [dict(train='layer1', epochs=2), dict(train='head', epochs=2)]


def pinned_cfg(work_dir, teacher_path):
    return run_cfg(work_dir, teacher_path, hook=dict(phases=copy.deepcopy(TWO_PHASES)))


@pytest.fixture(scope='module')
def pinned(tmp_path_factory, teacher_path):
    folder = tmp_path_factory.mktemp('whole')
    train(pinned_cfg(folder, teacher_path))
    return folder


def log_of_resume(cfg, checkpoint) -> str:
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
def test_another_run_is_refused(pinned, tmp_path, teacher_path, change, words):
    cfg = pinned_cfg(tmp_path / 'cut', teacher_path)
    change(cfg)
    with pytest.raises(ConfigError, match=words):
        log_of_resume(cfg, pinned / 'epoch_1.pth')
    assert not list(tmp_path.glob('cut/*.pth'))


def test_a_phase_that_was_not_reached_may_have_another_batch(pinned, tmp_path, teacher_path):
    cfg = pinned_cfg(tmp_path, teacher_path)
    cfg.default_hooks.stage_schedule.phases[1].train_dataloader = loader(batch_size=16)
    cfg.model.fold_teacher = True  # what it changes is rounding
    log = log_of_resume(cfg, pinned / 'epoch_2.pth')
    assert 'train_dataloader' not in log and 'batch' not in log


def test_other_data_of_the_same_length_and_other_ranks_are_said(pinned, tmp_path, teacher_path):
    cfg = pinned_cfg(tmp_path / 'cut', teacher_path)
    cfg.train_dataloader.dataset.indices = 95
    checkpoint = torch.load(pinned / 'epoch_1.pth', weights_only=False)
    checkpoint['pins']['ranks'] = 2
    torch.save(checkpoint, tmp_path / 'two.pth')
    log = log_of_resume(cfg, tmp_path / 'two.pth')
    assert '1 ranks, the checkpoint was written by 2' in log
    said = [line for line in log.splitlines() if 'dataset[0].images is 95, was 96; the run goes on with them' in line]
    assert len(said) == 2 and 'warnings: (1)' in said[1]  # once, and in the summary at the end


def test_with_other_validation_images_the_teacher_is_measured_anew(pinned, tmp_path, teacher_path):
    cfg = pinned_cfg(tmp_path, teacher_path)
    cfg.val_dataloader.dataset.indices = 20
    runner_of = {}

    @HOOKS.register_module(force=True)
    class Spy(Hook):
        def before_train_epoch(self, runner):
            runner_of['metrics'] = dict(runner.message_hub.get_info('teacher_metrics'))

    cfg.custom_hooks = [dict(type='Spy')]
    log = log_of_resume(cfg, pinned / 'epoch_3.pth')
    kept = torch.load(pinned / 'epoch_3.pth', weights_only=False)['message_hub']['runtime_info']['teacher_metrics']
    assert 'val_dataloader: ' in log and 'images is 20, was 50; its scores so far are dropped' in log
    assert runner_of['metrics'] != kept


def test_pins_are_plain_data(pinned, tmp_path):
    pins = torch.load(pinned / 'epoch_1.pth', weights_only=False)['pins']
    torch.save(pins, tmp_path / 'pins.pth')
    assert torch.load(tmp_path / 'pins.pth', weights_only=True) == pins
    assert pins['ranks'] == 1 and [phase['batch'] for phase in pins['phases']] == [32, 32]


def test_checkpoints_without_pins_are_of_another_version(pinned, tmp_path, teacher_path):
    checkpoint = torch.load(pinned / 'epoch_3.pth', weights_only=False)
    del checkpoint['pins']
    torch.save(checkpoint, tmp_path / 'old.pth')
    with pytest.raises(ConfigError, match='of this version'):
        log_of_resume(pinned_cfg(tmp_path / 'cut', teacher_path), tmp_path / 'old.pth')
    with pytest.raises(ConfigError, match='of this version'):
        export_checkpoint(str(tmp_path / 'old.pth'), str(tmp_path / 'out'))


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


# -- a run that is asked to end, as by a cluster that pre-empts it, goes on to the bit ---------------------------------


@HOOKS.register_module()
class Preemption(Hook):
    """Sends a signal to the run before its n-th iteration."""

    def __init__(self, number, iteration):
        self.number, self.iteration = number, iteration

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter + 1 == self.iteration:
            os.kill(os.getpid(), self.number)


def watched_cfg(work_dir, teacher_path, iters, interval, **changes):
    cfg = run_cfg(work_dir, teacher_path, iters=iters, hook=dict(phases=[dict(train='layer1'), dict(train='head')]))
    cfg.default_hooks.checkpoint.interval = interval
    cfg.update(changes)
    return cfg


@pytest.fixture(scope='module')
def unasked(tmp_path_factory, teacher_path):
    """Uninterrupted runs of six iterations, in two epochs where they count these."""
    folder = tmp_path_factory.mktemp('whole')
    return {
        iters: train(watched_cfg(folder / str(iters), teacher_path, iters, 100)) and folder / str(iters)
        for iters in (None, 3)
    }


@pytest.mark.parametrize(
    ('iters', 'interval', 'iteration', 'number', 'last'),
    [
        (3, 100, 2, signal.SIGTERM, 'iter_2.pth'),  # within a phase
        (3, 100, 3, signal.SIGUSR1, 'iter_3.pth'),  # at the end of one
        (None, 100, 3, signal.SIGHUP, 'epoch_1.pth'),  # at the end of an epoch
        (None, 1, 5, signal.SIGTERM, 'epoch_1.pth'),  # within one: its last checkpoint stays as it is
    ],
)
def test_the_resumed_run_is_the_uninterrupted_one(
    unasked, tmp_path, teacher_path, monkeypatch, capsys, iters, interval, iteration, number, last
):
    hooks = [dict(type='Preemption', number=int(number), iteration=iteration)]
    cfg = watched_cfg(tmp_path / 'cut', teacher_path, iters, interval, custom_hooks=hooks)
    before = signal.signal(number, signal.SIG_DFL)  # nohup, for one, has SIGHUP ignored, and so would the run
    try:
        code, _, error = call(monkeypatch, capsys, 'train.py', write(cfg, tmp_path / 'config.py'))
    finally:
        ignore_signals_no_more()
        release(tmp_path / 'cut')
        signal.signal(number, before)
    assert code == 128 + number and f'ended by {number.name}: --resume goes on from' in error and last in error
    assert not (tmp_path / 'cut/student.pth').exists()
    cfg = watched_cfg(
        tmp_path / 'cut', teacher_path, iters, interval, resume=True, load_from=str(tmp_path / 'cut' / last)
    )
    train(cfg)
    assert same(weights(unasked[iters] / 'student.pth'), weights(tmp_path / 'cut/student.pth'))


def test_before_anything_was_saved(tmp_path, teacher_path, monkeypatch, capsys):
    hooks = [dict(type='Preemption', number=int(signal.SIGTERM), iteration=2)]
    cfg = watched_cfg(tmp_path / 'cut', teacher_path, None, 1, custom_hooks=hooks)
    code, _, error = call(monkeypatch, capsys, 'train.py', write(cfg, tmp_path / 'config.py'))
    ignore_signals_no_more()
    assert code == 143 and 'ended by SIGTERM: nothing was saved yet, so it begins anew' in error
