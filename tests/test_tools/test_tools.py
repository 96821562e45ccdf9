"""The command-line tools as a user runs them, on configs on disk."""

import json
import os
import pickle
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from helpers import (
    GPU,
    ROOT,
    classifier,
    environment,
    loader,
    python,
    run_cfg,
    same,
    save_weights,
    train,
    warm_python,
    weights,
)
from mmengine.config import Config
from mmengine.logging import MessageHub, MMLogger
from mmengine.registry import DefaultScope
from mmengine.visualization import Visualizer

from mmsskd.cli import start_processes

TOOLS = ROOT / 'tools'
MANAGERS = (DefaultScope, MessageHub, MMLogger, Visualizer)


def write(cfg: Config, path):
    cfg.pop('experiment_name', None)
    cfg.dump(path)
    return path


def call(monkeypatch, capsys, tool, *args):
    """Run a tool in this process; returns exit code, standard output and standard error."""
    monkeypatch.setattr(sys, 'argv', [tool, *map(str, args)])
    held = {kind: kind._instance_dict.copy() for kind in MANAGERS}
    try:
        runpy.run_path(str(TOOLS / tool), run_name='__main__')
        code = 0
    except SystemExit as stop:
        code = stop.code
    finally:  # a run of the same second has the same name: it would log into the stream that pytest closed with this test
        for kind, instances in held.items():
            kind._instance_dict.clear()
            kind._instance_dict.update(instances)
    captured = capsys.readouterr()
    return code, captured.out, captured.err


@pytest.fixture(scope='module')
def run(tmp_path_factory, teacher_path):
    """A finished run: config file, work dir."""
    folder = tmp_path_factory.mktemp('run')
    path = write(run_cfg(folder / 'work', teacher_path, log_level='INFO'), folder / 'config.py')
    result = python(TOOLS / 'train.py', path, '--cfg-options', 'default_hooks.stage_schedule.head.epochs=2', cwd=folder)
    assert result.returncode == 0, result.stderr
    return path, folder / 'work', result


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
def test_test_takes_a_checkpoint_of_the_run_and_the_exported_student(run, monkeypatch, capsys, tmp_path):
    path, work_dir, _ = run
    monkeypatch.chdir(tmp_path)
    lines = []
    for config, checkpoint, *more in (
        (path, work_dir / 'epoch_5.pth', '--teacher'),
        (work_dir / 'student.py', work_dir / 'student.pth'),
    ):
        code, out, error = call(
            monkeypatch, capsys, 'test.py', config, checkpoint, '--work-dir', tmp_path / 'test', *more
        )
        assert code == 0, error
        lines.append([line for line in out.splitlines() if line.startswith(('student: ', 'teacher: '))])
    assert lines[0][0].startswith('teacher: accuracy/top1: ')
    assert lines[0][1] == lines[1][0]


@pytest.mark.slow
def test_test_writes_predictions(run, monkeypatch, capsys, tmp_path):
    path, work_dir, _ = run
    out = tmp_path / 'predictions.pkl'
    arguments = (path, work_dir / 'student.pth', '--work-dir', tmp_path, '--out', out)
    assert call(monkeypatch, capsys, 'test.py', *arguments)[0] == 0
    assert len(pickle.loads(out.read_bytes())) == 50


@pytest.mark.slow
def test_export_student(run, monkeypatch, capsys, tmp_path):
    _, work_dir, _ = run
    code, _, error = call(monkeypatch, capsys, 'export_student.py', work_dir / 'epoch_5.pth', tmp_path / 'out')
    assert code == 0, error
    assert same(weights(tmp_path / 'out' / 'student.pth'), weights(work_dir / 'student.pth'))


@pytest.mark.slow
def test_export_student_with_options_for_its_config(run, monkeypatch, capsys, tmp_path):
    _, work_dir, _ = run
    checkpoint = work_dir / 'epoch_5.pth'
    options = ['--cfg-options', 'test_dataloader.dataset.indices=7', 'model.student.test_cfg.flip=True']
    code, _, error = call(monkeypatch, capsys, 'export_student.py', checkpoint, tmp_path / 'out', *options)
    assert code == 0, error
    cfg = Config.fromfile(tmp_path / 'out' / 'student.py')
    assert cfg.test_dataloader.dataset.indices == 7 and cfg.model.test_cfg.flip
    assert same(weights(tmp_path / 'out' / 'student.pth'), weights(work_dir / 'student.pth'))
    options = ['--cfg-options', 'model.student.backbone.depth.wrong=1']
    code, _, error = call(monkeypatch, capsys, 'export_student.py', checkpoint, tmp_path / 'no', *options)
    assert code == 1 and error.startswith('error: --cfg-options: ') and not (tmp_path / 'no').exists()


def test_print_stages(tmp_path, monkeypatch, capsys):
    """Without weights or data. MACs by hand: 9 * in * out * height * width for each 3x3 convolution."""
    cfg = run_cfg(tmp_path, 'nowhere.pth', student=classifier(depth=8, width=1))
    code, out, error = call(monkeypatch, capsys, 'print_stages.py', write(cfg, tmp_path / 'config.py'))
    assert code == 0, error
    rows = [line.split('  ') for line in out.splitlines()]
    rows = [[cell.strip() for cell in row if cell.strip()] for row in rows]
    table = {row[0]: row for row in rows}
    stem, block = 9 * 1 * 8 * 64, 9 * 8 * 16 * 64 + 9 * 16 * 16 * 64 + 8 * 16 * 64
    assert table['layer1'][1] == 'conv1 bn1 relu layer1'
    assert table['layer1'][3:6] == ['16x8x8', '8x8x8', '144']  # adapter: 16 * 8, and scale and shift of 8 channels
    assert table['layer1'][6] == f'{(stem + block) / 1000:.3g} K'
    assert table['layer1'][8] == f'{(stem + 2 * block) / 1000:.3g} K'  # the image needs no gradient
    assert table['head'][:3] == ['head', 'head', '650']


@pytest.mark.slow
def test_dist_test(run, tmp_path):
    path, work_dir, _ = run
    result = subprocess.run(
        ['bash', TOOLS / 'dist_test.sh', path, work_dir / 'student.pth', '2', '--work-dir', tmp_path],
        env=environment(PORT='29620'),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert result.returncode == 0, result.stderr
    alone = warm_python(TOOLS / 'test.py', path, work_dir / 'student.pth', '--work-dir', tmp_path)
    assert alone.stdout.splitlines()[-1] in result.stdout


@pytest.mark.parametrize('script', ['dist_train.sh', 'dist_test.sh', 'slurm_train.sh', 'setup_env.sh'])
def test_shell_scripts(script):
    assert subprocess.run(['bash', '-n', TOOLS / script]).returncode == 0
    assert os.access(TOOLS / script, os.X_OK)
    if script != 'setup_env.sh':
        result = subprocess.run(['bash', TOOLS / script], capture_output=True, text=True)
        assert result.returncode == 1 and f'tools/{script} ' in result.stderr


def test_slurm_starts_torchrun_with_the_arguments(tmp_path):
    """srun and scontrol are stand-ins that show what they get."""
    for name, body in (
        ('srun', 'while [[ $1 == -* ]]; do [ "$1" = -p ] && shift; shift; done; exec "$@"'),
        ('scontrol', 'echo node7'),
    ):
        (tmp_path / name).write_text(f'#!/bin/bash\n{body}\n')
        (tmp_path / name).chmod(0o755)
    (tmp_path / 'python').write_text('#!/bin/bash\nprintf "%s\\n" "$@"\n')
    (tmp_path / 'python').chmod(0o755)
    env = environment(
        PATH=f'{tmp_path}:{os.environ["PATH"]}', GPUS='4', SLURM_JOB_ID='1', SLURM_JOB_NODELIST='x', PYTHON='python'
    )
    result = subprocess.run(
        ['bash', TOOLS / 'slurm_train.sh', 'part', 'job', 'a config.py', 'work', '--cfg-options', 'a=b c'],
        env=env,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    arguments = result.stdout.splitlines()
    assert arguments[:2] == ['-m', 'torch.distributed.run'] and '--nproc-per-node=4' in arguments
    assert '--rdzv-endpoint=node7:29500' in arguments
    assert arguments[-7:] == ['a config.py', '--work-dir', 'work', '--launcher', 'pytorch', '--cfg-options', 'a=b c']


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
    sides = {'model.stages': ['layer1', 'layer3'], 'model.teacher_stages': ['layer2', 'layer3']}
    yield 'spatial mismatch', sides, (), "stage 'layer1': student 8x8x8, teacher 16x4x4: the sizes differ"
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


def test_deterministic_kernels_have_what_cublas_needs(monkeypatch, capsys, tmp_path):
    """On a GPU torch raises at the first linear layer where the variable is not set."""
    monkeypatch.delenv('CUBLAS_WORKSPACE_CONFIG', raising=False)
    path = write(run_cfg(tmp_path, 'nowhere.pth', **{'randomness.deterministic': True}), tmp_path / 'config.py')
    assert call(monkeypatch, capsys, 'print_stages.py', path)[0] == 0
    assert os.environ['CUBLAS_WORKSPACE_CONFIG'] == ':4096:8'


@pytest.mark.parametrize(('gpus', 'ranks', 'gloo'), [(0, 2, True), (1, 2, True), (2, 2, False), (1, 1, False)])
def test_processes_that_would_share_a_gpu_talk_through_gloo(monkeypatch, gpus, ranks, gloo):
    """NCCL refuses two processes on one GPU, and MMEngine would give the second a device that is not there."""
    started, device = [], []
    monkeypatch.setenv('LOCAL_WORLD_SIZE', str(ranks))
    monkeypatch.setenv('LOCAL_RANK', '1')
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: gpus)
    monkeypatch.setattr(torch.cuda, 'set_device', device.append)
    monkeypatch.setattr(torch.distributed, 'init_process_group', started.append)
    cfg = Config(dict(launcher='pytorch'))
    start_processes(cfg)
    assert started == (['gloo'] if gloo else [])
    assert device == ([0] if gloo and gpus else [])
    assert ('model_wrapper_cfg' in cfg and cfg.model_wrapper_cfg.device_ids is None) == gloo


def test_wrong_config_path_lists_its_neighbours(tmp_path, monkeypatch, capsys):
    code, _, error = call(monkeypatch, capsys, 'train.py', ROOT / 'configs/sskd/imagenet_r34_r81.py')
    assert code == 1 and "did you mean 'imagenet_r34_r18.py'" in error


@pytest.mark.slow
def test_teacher_of_a_plain_config(run, monkeypatch, capsys, tmp_path):
    _, work_dir, _ = run
    arguments = (work_dir / 'student.py', work_dir / 'student.pth', '--teacher', '--work-dir', tmp_path)
    code, _, error = call(monkeypatch, capsys, 'test.py', *arguments)
    assert code == 1 and 'it names no teacher' in error


@pytest.mark.slow
def test_test_is_strict(run, monkeypatch, capsys, tmp_path, teacher_path):
    path, _, _ = run
    code, _, error = call(monkeypatch, capsys, 'test.py', path, teacher_path, '--work-dir', tmp_path)
    assert code == 1 and 'error: checkpoint: ' in error and 'unexpected (' in error and 'missing (' not in error


@pytest.mark.slow
def test_traceback_on_request(tmp_path):
    result = warm_python(TOOLS / 'train.py', tmp_path / 'x.py', MMSSKD_TRACEBACK='1')
    assert result.returncode == 1 and 'Traceback' in result.stderr


@pytest.mark.slow
def test_benchmark_does_equal_work_and_needs_no_more_memory_than_full_forwards(tmp_path):
    """The three schemes are compared step by step inside the tool, which stops where their losses or what they train differ."""
    config = ROOT / 'configs/sskd/digits_r14x2_r8.py'
    out = tmp_path / 'figures.json'
    result = python(ROOT / 'tools/benchmark.py', config, '--batch-size', 4, '--rounds', 1, '--json', out)
    assert result.returncode == 0, result.stderr
    rows = json.loads(out.read_text())
    assert [row['stage'] for row in rows] == ['layer1', 'layer2', 'layer3']
    for row in rows:
        assert all(seconds > 0 for seconds in row['seconds'].values())
        assert row['memory']['mmsskd'] <= 1.001 * row['memory']['full']
    assert rows[0]['memory']['mmsskd'] < 0.95 * rows[0]['memory']['full'], (
        'the first stage keeps the least of a forward'
    )
    assert 'sum / highest' in result.stdout


@pytest.mark.slow
def test_benchmark_says_which_networks_it_knows(tmp_path):
    result = warm_python(ROOT / 'tools/benchmark.py', ROOT / 'configs/plain/digits_r8.py')
    assert result.returncode == 1 and 'is not the config of a stage-by-stage run' in result.stderr
