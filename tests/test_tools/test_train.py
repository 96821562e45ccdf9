"""Training as a user runs it, on configs on disk."""

import os
from pathlib import Path

import pytest
import torch
from helpers import GPU, classifier, loader, run_cfg, save_weights, train, weights
from tool_helpers import call, write


@pytest.mark.slow
def test_train_prints_phases_and_leaves_the_student(run):
    _, work_dir, result = run
    for line in ('phase 1/4 layer1 epoch 1/1', 'phase 4/4 head epoch 2/2', 'the plain student is in'):
        assert line in result.stdout
    assert {'student.pth', 'student.py', 'epoch_5.pth', 'config.py', 'phase1_layer1.pth'} <= set(os.listdir(work_dir))


def test_default_work_dir_is_named_after_the_config(tmp_path, teacher_path, monkeypatch, capsys):
    cfg = run_cfg(tmp_path, teacher_path, hook=dict(phases=[dict(train='layer1')]))
    cfg.pop('work_dir')
    monkeypatch.chdir(tmp_path)
    code, _, error = call(monkeypatch, capsys, 'train.py', write(cfg, tmp_path / 'mine.py'))
    assert code == 0, error
    assert (tmp_path / 'work_dirs' / 'mine' / 'student.pth').is_file()


@pytest.mark.slow
def test_tensorboard_gets_the_curves(tmp_path, teacher_path):
    event_accumulator = pytest.importorskip('tensorboard.backend.event_processing.event_accumulator')
    cfg = run_cfg(tmp_path, teacher_path, hook=dict(phases=[dict(train='layer1'), dict(train='head')]))
    cfg.visualizer.vis_backends = [dict(type='TensorboardVisBackend')]
    train(cfg)
    events = event_accumulator.EventAccumulator(str(next(tmp_path.glob('*/vis_data'))))
    events.Reload()
    tags = set(events.Tags()['scalars'])
    assert {'relative_error_layer1', 'val/relative_error_layer1', 'accuracy/top1', 'teacher/accuracy/top1'} <= tags


# -- mistakes: one message, exit code 1, before training ---------------------------------------------------------------


def mistakes(tmp_path, teacher_path):
    """(name, config changes or arguments, what the message must say)"""
    other = save_weights(classifier(depth=8), tmp_path / 'other.pth')
    cut = tmp_path / 'cut.pth'
    cut.write_bytes(Path(teacher_path).read_bytes()[:1000])
    missing = dict(loader(), dataset=dict(type='ImageNet', data_root='data/nowhere', split='train', pipeline=[]))
    schedule = 'default_hooks.stage_schedule'
    yield 'unknown stage', {'model.stages': ['layer1', 'layer9']}, (), "no module 'layer9'; did you mean"
    yield 'stages out of order', {'model.stages': ['layer2', 'layer1']}, (), "write ['layer1', 'layer2']"
    yield 'another architecture', {'model.teacher_checkpoint': other}, (), 'missing (30): backbone.layer1.1'
    yield 'truncated checkpoint', {'model.teacher_checkpoint': str(cut)}, (), 'is the file truncated'
    yield 'no checkpoint', {'model.teacher_checkpoint': 'x.pth'}, (), "model.teacher_checkpoint: no file 'x.pth'"
    yield 'missing data set', {'train_dataloader': missing}, (), 'data/nowhere'
    sides = {'model.stages': ['layer1', 'layer3'], 'model.teacher_stages': ['layer2', 'layer3'], 'model.resize': False}
    yield 'spatial mismatch', sides, (), "stage 'layer1': student 8x8x8, teacher 16x4x4: the places differ"
    yield (
        'unknown stage in schedule',
        {f'{schedule}.phases': [dict(train='layer7')]},
        (),
        "unknown stage 'layer7'; did you mean",
    )
    yield 'empty schedule', {f'{schedule}.phases': []}, (), 'must be a non-empty list'
    yield 'phase without stage', {f'{schedule}.phases': [dict(train=[])]}, (), 'train must name at least one of'
    yield 'length 0', {f'{schedule}.transfer.epochs': 0}, (), 'epochs must be a whole number of at least 1, found 0'
    yield 'nothing to resume', {}, ('--resume',), 'holds no checkpoint; remove --resume'
    yield 'resume from nowhere', {}, ('--resume', 'x.pth'), "there is no file 'x.pth'"
    yield 'mixed precision on CPU', {}, ('--amp',), 'mixed precision needs a GPU'
    yield 'scaling without base', {}, ('--auto-scale-lr',), 'needs auto_scale_lr=dict(base_batch_size=...)'
    yield (
        'unknown field of the hook',
        {f'{schedule}.tranfer': {}},
        (),
        "unknown field 'tranfer'; did you mean 'transfer'",
    )
    yield 'unknown field of the model', {'model.stage': []}, (), "unknown field 'stage'; did you mean 'stages'"
    yield 'unknown backbone', {'model.student.backbone.type': 'mmsskd.CIFARResNt'}, (), "did you mean 'CIFARResNet'"
    yield 'recipe of no form', {f'{schedule}.transfer': 3}, (), 'StageScheduleHook.transfer must be a dict'
    yield 'stages of no form', {'model.stages': []}, (), 'model.stages must be a list of module paths'
    yield 'input shape', {'model.input_shape': 8}, (), 'model.input_shape must be (channels, height, width)'
    late = 'phase 4 of 4 (head): '
    yield 'unknown optimiser', {'optim_wrapper.optimizer.type': 'SDG'}, (), "no optimizer 'SDG'; did you mean 'SGD'"
    adam = {f'{schedule}.head.optim_wrapper': dict(optimizer=dict(type='Adm'))}
    yield 'optimiser of the head', adam, (), f"{late}optim_wrapper: there is no optimizer 'Adm'; did you mean 'Adam'"
    rate = {f'{schedule}.head.optim_wrapper': dict(optimizer=dict(type='Adam', rate=1))}
    yield 'optimiser with a wrong field', rate, (), f'{late}its optim_wrapper or param_scheduler cannot be built: '
    scheduler = {f'{schedule}.head.param_scheduler': [dict(type='Cosin')]}
    yield 'schedule of the head', scheduler, (), f'{late}its optim_wrapper or param_scheduler'
    yield 'head that does not fit', {'model.student.head.in_channels': 7}, (), f'{late}its losses cannot be computed'
    few = dict(loader(count=20), drop_last=True)
    yield 'no batch', {f'{schedule}.head.train_dataloader': few}, (), f'{late}its loader gives no batch: 20 images'
    wide = classifier(depth=8, width=0.25)
    phases = [dict(train='layer1', mimic='layer2'), dict(train='head')]
    random = {'model.student': wide, f'{schedule}.phases': phases}
    yield 'untrained adapter', random, (), "mimics 'layer2' without training it, through an adapter"
    yield 'two hooks', {'custom_hooks': [dict(type='mmsskd.StageScheduleHook')]}, (), 'two StageScheduleHooks'
    wild = weights(teacher_path)
    wild['head.fc.bias'][0] = float('nan')
    torch.save(wild, tmp_path / 'wild.pth')
    path = str(tmp_path / 'wild.pth')
    yield 'weights that are no numbers', {'model.teacher_checkpoint': path}, (), 'not finite (1): head.fc.bias'
    yield 'checkpoint of no form', {'model.teacher_checkpoint': 3}, (), 'must be a file or URL, found 3'
    yield 'truncated checkpoint to resume', {}, ('--resume', str(cut)), '--resume: cannot read'
    yield (
        'no hook',
        {'default_hooks.stage_schedule': dict(type='IterTimerHook')},
        (),
        'add dict(type="mmsskd.StageScheduleHook")',
    )


NAMES = [
    'unknown stage', 'stages out of order', 'another architecture', 'truncated checkpoint', 'no checkpoint',
    'missing data set', 'spatial mismatch', 'unknown stage in schedule', 'empty schedule', 'phase without stage',
    'length 0', 'nothing to resume', 'resume from nowhere', 'mixed precision on CPU', 'scaling without base',
    'unknown field of the hook', 'unknown field of the model', 'unknown backbone', 'recipe of no form',
    'stages of no form', 'input shape', 'unknown optimiser', 'optimiser of the head', 'optimiser with a wrong field',
    'schedule of the head', 'head that does not fit', 'no batch', 'untrained adapter', 'two hooks',
    'weights that are no numbers', 'checkpoint of no form', 'truncated checkpoint to resume', 'no hook',
]  # fmt: skip


@pytest.mark.parametrize('name', NAMES)
def test_mistakes(name, tmp_path, teacher_path, monkeypatch, capsys):
    if GPU and name == 'mixed precision on CPU':
        pytest.skip('there is a GPU')
    table = {row[0]: row for row in mistakes(tmp_path, teacher_path)}
    assert list(table) == NAMES
    _, changes, arguments, message = table[name]
    cfg = run_cfg(tmp_path / 'work', teacher_path)
    for key, value in changes.items():
        target, _, last = key.rpartition('.')
        node = cfg
        for part in target.split('.') if target else ():
            node = node[part]
        node[last] = value
    code, _, error = call(monkeypatch, capsys, 'train.py', write(cfg, tmp_path / 'config.py'), *arguments)
    assert code == 1
    assert message in error.replace('\n', ' ') and error.startswith('error: ')
    assert not list(tmp_path.glob('work/*.pth'))  # nothing had been trained
