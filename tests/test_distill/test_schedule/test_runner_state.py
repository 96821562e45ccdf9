"""Two real processes (gloo), once through tools/dist_train.sh: equal to the bit, and equal to one process with the same batches."""

import itertools
import subprocess

import pytest
import torch
from distill_helpers import idle_student
from helpers import GROUP_NORM, ROOT, classifier, environment, loader, run_cfg, same, save_weights, train, warm_ranks
from mmengine.config import Config
from mmengine.hooks import EMAHook

from mmsskd.errors import ConfigError


def two_processes(cfg: Config, path, port: int, script=False):
    cfg.dump(path)
    if not script:
        return warm_ranks(ROOT / 'tools/train.py', path, port=port, PYTHONPATH=ROOT / 'tests')
    env = environment(PYTHONPATH=ROOT / 'tests', PORT=str(port))
    return subprocess.run(
        ['bash', ROOT / 'tools/dist_train.sh', path, '2'], env=env, capture_output=True, text=True, timeout=300
    )


def distributed_cfg(folder, teacher_checkpoint, iters=None, batch_size=16, **models) -> Config:
    """No augmentation, so that two processes see what one sees; momentum SGD, because Adam magnifies rounding."""
    folder.mkdir()
    cfg = run_cfg(folder, teacher_checkpoint, iters=iters, **models)
    cfg.train_dataloader = loader(batch_size=batch_size, infinite=iters is not None)
    cfg.train_dataloader.dataset.pipeline = [dict(type='PackInputs')]
    sgd = dict(optimizer=dict(type='SGD', lr=0.05, momentum=0.9))
    cfg.default_hooks.stage_schedule.transfer.update(optim_wrapper=sgd, param_scheduler=[])
    cfg.custom_imports = dict(imports=['rank_dump'], allow_failed_imports=False)
    cfg.custom_hooks = [dict(type='RankDump', folder=str(folder), interval=iters or 1)]
    cfg.default_hooks.checkpoint.interval = 100
    cfg.pop('experiment_name')
    return cfg


def steps(folder, rank):
    paths = sorted(folder.glob(f'step*_rank{rank}.pth'), key=lambda path: int(path.name.split('_')[0][4:]))
    return [torch.load(path, map_location='cpu') for path in paths]


@pytest.mark.slow
@pytest.mark.parametrize('iters', [None, 3])
def test_two_processes_equal_one_without_bn(tmp_path, iters, monkeypatch):
    """Widths differ, so adapters are reduced too."""
    models = dict(teacher=classifier(**GROUP_NORM), student=classifier(depth=8, width=1, **GROUP_NORM))
    teacher = save_weights(models['teacher'], tmp_path / 'teacher.pth')
    norm = {'model.adapter_norm': False}
    two = distributed_cfg(tmp_path / 'two', teacher, iters, **models, **norm)
    result = two_processes(two, tmp_path / 'two.py', 29610 + bool(iters), script=iters is None)
    assert result.returncode == 0, result.stdout + result.stderr
    monkeypatch.syspath_prepend(str(ROOT / 'tests'))
    import rank_dump  # noqa: F401

    train(distributed_cfg(tmp_path / 'one', teacher, iters, batch_size=32, **models, **norm))
    first, second, single = steps(tmp_path / 'two', 0), steps(tmp_path / 'two', 1), steps(tmp_path / 'one', 0)
    assert len(first) == len(second) == len(single) == 4
    for a, b, c in zip(first, second, single):
        assert a['wrapper'] == 'MMDistributedDataParallel' and a['find_unused'] is False
        assert a['trains'] == c['trains']  # only what the phase trains is reduced
        assert same(a['state_dict'], b['state_dict'])
        for name, value in c['state_dict'].items():
            torch.testing.assert_close(
                a['state_dict'][name], value, rtol=0, atol=1e-5, msg=lambda m, name=name: f'{name}: {m}'
            )
    assert len({step['trains'] for step in first}) == 4


@pytest.mark.slow
def test_ranks_agree_on_bn_statistics_and_frozen_ones_do_not_move(tmp_path, teacher_path):
    """A projector's too, which trains with the last stage."""
    projector = {'model.projector': dict(type='mmsskd.BottleneckProjector')}
    result = two_processes(distributed_cfg(tmp_path / 'run', teacher_path, **projector), tmp_path / 'run.py', 29612)
    assert result.returncode == 0, result.stdout + result.stderr
    first, second = steps(tmp_path / 'run', 0), steps(tmp_path / 'run', 1)
    for a, b in zip(first, second):
        assert same(a['state_dict'], b['state_dict'])
    frozen = [name for name in first[0]['state_dict'] if 'layer1' in name or name.startswith('backbone.bn1')]
    assert any('running_var' in name for name in frozen)
    assert same(first[0]['state_dict'], first[-1]['state_dict'], frozen)
    own = [name for name in first[0]['state_dict'] if 'neck.projector' in name]
    moved = [
        [not torch.equal(a['state_dict'][n], b['state_dict'][n]) for n in own] for a, b in itertools.pairwise(first)
    ]
    assert own and not any(moved[0]) and all(moved[1]) and not any(moved[2])
    assert (tmp_path / 'run' / 'student.pth').is_file() and (tmp_path / 'run' / 'phase3_layer3.pth').is_file()


@pytest.mark.slow
def test_ranks_do_not_wait_for_layers_that_nothing_depends_on(tmp_path, teacher_path):
    """No phase hands them to the reducer, whose gradients would never come; they stay as they are, all else trains."""
    phases = [dict(train=part, iters=2) for part in ('layer1', 'layer2', 'head', 'all')]
    cfg = distributed_cfg(
        tmp_path / 'run',
        teacher_path,
        iters=2,
        student=idle_student(),
        hook=dict(phases=phases),
        **{'model.stages': ['layer1', 'layer2']},
    )
    result = two_processes(cfg, tmp_path / 'run.py', 29613)
    assert result.returncode == 0, result.stdout + result.stderr
    first, second = steps(tmp_path / 'run', 0), steps(tmp_path / 'run', 1)
    assert len(first) == 4 and all(a['find_unused'] is False for a in first)
    assert all(same(a['state_dict'], b['state_dict']) for a, b in zip(first, second))
    idle = [name for name in first[0]['state_dict'] if name.startswith('backbone.layer3.')]
    assert idle and same(first[0]['state_dict'], first[-1]['state_dict'], idle)
    own = [name for name in first[0]['state_dict'] if name.endswith('.weight') and name not in idle]
    assert not any(torch.equal(first[0]['state_dict'][name], first[-1]['state_dict'][name]) for name in own)


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (
            dict(model_wrapper_cfg=dict(type='MMFullyShardedDataParallel')),
            'which MMFullyShardedDataParallel cannot follow',
        ),
        (dict(compile=True), '`compile` is not supported'),
        (
            dict(custom_hooks=[dict(type='EMAHook')]),
            r'EMAHook would average weights across stages: set begin_epoch=4 in it',
        ),
        (dict(custom_hooks=[dict(type='EMAHook', begin_epoch=3)]), 'set begin_epoch=4 in it'),
    ],
)
def test_what_cannot_follow_a_schedule_is_refused(tmp_path, teacher_path, change, message):
    with pytest.raises(ConfigError, match=message):
        train(run_cfg(tmp_path, teacher_path, **change))


def test_flexible_runner_is_refused(tmp_path, teacher_path):
    from mmengine.runner import FlexibleRunner

    cfg = run_cfg(tmp_path, teacher_path)
    cfg.update(strategy=dict(type='SingleDeviceStrategy'), env_cfg=dict(), launcher='none')
    with pytest.raises(ConfigError, match='which SingleDeviceStrategy cannot follow.*Use the ordinary Runner with DDP'):
        FlexibleRunner.from_cfg(cfg).train()


def test_ema_in_the_head_phase_is_exported(tmp_path, teacher_path):
    """From epoch 4, the head: the student carries the averaged head and the frozen backbone to the bit."""
    cfg = run_cfg(tmp_path, teacher_path, custom_hooks=[dict(type='EMAHook', begin_epoch=4, momentum=0.5)])
    runner = train(cfg)
    ema = next(hook for hook in runner.hooks if isinstance(hook, EMAHook))
    student = torch.load(tmp_path / 'student.pth')['state_dict']
    averaged = ema.ema_model.module.state_dict()
    assert ema.ema_model.module.teacher is runner.model.teacher
    assert same(student, averaged, student)
    assert not torch.equal(student['head.fc.weight'], runner.model.student.head.fc.weight)
    assert torch.equal(student['backbone.conv1.weight'], runner.model.student.backbone.conv1.weight)
