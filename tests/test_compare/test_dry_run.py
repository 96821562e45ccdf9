"""Slips in a comparison show before its teacher trains: at once where a look is enough, else by one step of each arm."""

import json
from concurrent.futures import Executor, Future
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, nullcontext

import pytest
from helpers import ROOT

from mmsskd.compare.comparison import Comparison
from mmsskd.compare.dry_run import dry_run
from mmsskd.compare.plan import parse_plan
from mmsskd.errors import ConfigError


class InThisProcess(Executor):
    """Workers that need not start; test_comparison.py has those that do."""

    def submit(self, function, *args):
        future = Future()
        try:
            future.set_result(function(*args))
        except Exception as error:
            future.set_exception(error)
        return future


@pytest.fixture
def in_this_process(monkeypatch):
    @contextmanager
    def workers(jobs):
        yield InThisProcess()

    monkeypatch.setattr('mmsskd.compare.comparison.workers', workers)


HOOK = 'default_hooks.stage_schedule'


def comparison(out, options=None, **changes):
    arms = {
        'plain': dict(config='digits_r8.py'),
        'mine': dict(config='../sskd/digits_r14x2_r8.py', options=options or {}),
    }
    small = {
        f'{split}_dataloader.dataset.indices': count for split, count in (('train', 64), ('val', 32), ('test', 64))
    }
    cfg = dict(metric='accuracy/top1', teacher='digits_r14x2.py', arms=arms, plain='plain', epochs=4, options=small)
    return Comparison(parse_plan({**cfg, **changes}, ROOT / 'configs/plain', 'FILE'), out, say=lambda line: None)


@pytest.mark.parametrize(
    ('options', 'words'),
    [
        ({'optim_wraper.optimizer.lr': 0.1}, ["has no 'optim_wraper'", "'optim_wrapper'"]),
        ({'optim_wrapper.optimizer.lrr': 0.1}, ["unexpected keyword argument 'lrr'", "did you mean 'lr'"]),
        ({f'{HOOK[:-1]}.transfer.epochs': 1}, ["has no 'default_hooks.stage_schedul'", 'stage_schedule']),
        ({f'{HOOK}.transfr': dict(epochs=1)}, ["unknown field 'transfr'", "did you mean 'transfer'"]),
        ({'model.adapter_nrm': True}, ["unknown field 'adapter_nrm'", "did you mean 'adapter_norm'"]),
        ({'optim_wrapper.optimizer.type': 'SDG'}, ['SDG']),
        ({'train_cfg.max_iters': 5}, ['counts epochs', 'counts iterations']),
        ({f'{HOOK}.phases': dict(train='all')}, ['phases must be a non-empty list of dicts']),
        ({f'{HOOK}.phases': [dict(train='all', epochs='x')]}, ["whole number of at least 1, found 'x'"]),
        ({f'{HOOK}.phases': [dict(train='all', epochs=0)]}, ['whole number of at least 1, found 0']),
        ({f'{HOOK}.phases': [dict(train='head', epochs=1)] * 5}, ['4 epochs are too few for 5 phases']),
    ],
)
def test_what_a_look_shows(options, words, tmp_path):
    with pytest.raises(ConfigError) as error:
        comparison(tmp_path, options)
    for word in ["arms['mine']: ", *words]:
        assert word in str(error.value)


def test_options_that_only_add_are_taken(tmp_path):
    """Fields that a config leaves out may be set by their path, also within what another file says."""
    options = {
        'optim_wrapper.clip_grad.max_norm': 1.0,
        f'{HOOK}.head.epochs': 2,
        'model.mimic_loss': dict(layer1=dict(type='mmsskd.CosineMimicLoss')),
        'model.student.backbone.norm_eval': False,
        'auto_scale_lr': dict(base_batch_size=64),
    }
    comparison(tmp_path, options)


@pytest.mark.slow
@pytest.mark.parametrize(
    ('changes', 'words'),
    [
        (dict(metric='acuracy/top1'), ["no 'acuracy/top1'", 'accuracy/top1']),
        (dict(per_class='recall'), ["no 'recall'"]),
        (dict(per_class='recall/{}'), ["nothing under 'recall/{}'", '0, 1, 2']),
    ],
)
def test_what_the_evaluators_do_not_give(changes, words, tmp_path):
    with pytest.raises(ConfigError) as error:
        dry_run(comparison(tmp_path, **changes)._teacher(0))
    for word in words:
        assert word in str(error.value)


@pytest.mark.slow
@pytest.mark.parametrize(
    ('changes', 'words'),
    [
        (dict(per_class='recall'), ['teacher: ', "no 'recall'"]),
        (
            dict(arms=dict(plain=dict(config='digits_r8.py', options={'model.backbone.dpth': 8}))),
            ["arms['plain']: model.backbone cannot be built: ", "did you mean 'depth'"],
        ),
        (dict(options={'val_evaluator': None}), ["arms['mine']: ", 'val_evaluator not set, but val_dataloader']),
    ],
)
def test_what_one_step_shows(changes, words, tmp_path, in_this_process):
    with pytest.raises(ConfigError) as error:
        comparison(tmp_path, **changes).run()
    for word in words:
        assert word in str(error.value)
    assert not (tmp_path / 'teacher').exists()


def test_a_worker_that_the_system_killed_is_told_from_a_slip(tmp_path, monkeypatch):
    class Killed(Executor):
        def submit(self, function, *args):
            future = Future()
            future.set_exception(BrokenProcessPool('terminated abruptly'))
            return future

    monkeypatch.setattr('mmsskd.compare.comparison.workers', lambda jobs: nullcontext(Killed()))
    with pytest.raises(
        ConfigError, match='teacher: its process was killed, which the system does where memory runs out'
    ):
        comparison(tmp_path).run()


@pytest.mark.slow
def test_tries_that_have_other_keys_are_tried_too(tmp_path, in_this_process):
    """Rates alone are not: the second try differs from the first by a number, the third has a slip that a look does not show."""
    tries = [
        {'optim_wrapper.optimizer.lr': 0.1},
        {'optim_wrapper.optimizer.lr': 0.2},
        {'train_dataloader.batchsize': 8},
    ]
    arms = dict(plain=dict(config='digits_r8.py', tries=tries))
    with pytest.raises(ConfigError) as error:
        comparison(tmp_path, arms=arms).run()
    assert "arms['plain'], try 3: " in str(error.value) and 'batchsize' in str(error.value)
    assert not (tmp_path / 'teacher').exists()


@pytest.mark.parametrize(
    ('names', 'words'),
    [
        (['plain', '+'], "'+' has no letter or digit"),
        (['plain', '..'], "'..' has no letter or digit"),
        (['plain', 'x' * 300], 'longer than'),
        (['plain', 'teacher'], 'the row of the teacher'),
        (['plain', 'Plain'], 'differs from another only in punctuation or case'),
        (['plain', 'plain!'], 'differs from another only in punctuation or case'),
    ],
)
def test_names_that_make_no_folder_of_their_own(names, words, tmp_path):
    with pytest.raises(ConfigError) as error:
        comparison(tmp_path, arms=dict.fromkeys(names, 'digits_r8.py'))
    assert words in str(error.value)


@pytest.mark.slow
def test_it_is_done_once_and_leaves_nothing(tmp_path):
    said = []
    again = comparison(tmp_path)
    again.say = said.append
    again._pool = InThisProcess()
    again._dry_run()
    assert len(said) == 1 and [path.name for path in (tmp_path / 'dry_run').iterdir()] == ['done.json']
    assert len(json.loads((tmp_path / 'dry_run/done.json').read_text())) == 3
    again._pool = None
    again._dry_run()
    assert len(said) == 1
    changed = comparison(tmp_path, {'model.adapter_norm': False})
    changed.say, changed._pool = said.append, None
    with pytest.raises(AttributeError, match='submit'):  # it would begin
        changed._dry_run()
    assert '1 settings of the arms' in said[1]
