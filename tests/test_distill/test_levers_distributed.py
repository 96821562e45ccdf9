"""The levers in two real processes (gloo): ranks equal to the bit, and equal to one process where no BN is."""

import torch
from helpers import GROUP_NORM, ROOT, classifier, same, save_weights, train
from test_distributed import distributed_cfg, steps, two_processes


def test_ranks_agree_and_frozen_parts_do_not_move(tmp_path, teacher_path):
    """Statistics of the student and of the normed adapters; each rank reloads the same weights."""
    cfg = distributed_cfg(tmp_path / 'run', teacher_path, student=classifier(depth=8, width=1))
    cfg.model.update(adapter_norm=True, logits='head.fc')
    growing = [dict(type='ExponentialLR', gamma=8.0)]
    cfg.default_hooks.stage_schedule.phases = [
        dict(train='stages', recalibrate_bn=2),
        dict(train='layer3', reload_best=True, epochs=3, param_scheduler=growing),
        dict(train='head', logits=True, task_loss=False),
    ]
    result = two_processes(cfg, tmp_path / 'run.py', 29613)
    assert result.returncode == 0, result.stdout + result.stderr
    first, second = steps(tmp_path / 'run', 0), steps(tmp_path / 'run', 1)
    assert len(first) == len(second) == 5
    for a, b in zip(first, second):
        assert same(a['state_dict'], b['state_dict'])
    states = [step['state_dict'] for step in first]
    frozen = [name for name in states[0] if 'layer3' not in name and not name.startswith('head')]
    assert any(name.startswith('adapters.layer2') and 'running_var' in name for name in frozen)
    assert same(states[0], states[3], frozen)
    assert same(states[1], states[3]) and not same(states[2], states[3])  # the first of its three epochs was the best
    moved = {name for name in states[3] if not torch.equal(states[3][name], states[4][name])}
    assert moved == {'head.fc.weight', 'head.fc.bias'}


def test_two_processes_equal_one(tmp_path, monkeypatch):
    models = dict(teacher=classifier(**GROUP_NORM), student=classifier(depth=8, **GROUP_NORM))
    teacher = save_weights(models['teacher'], tmp_path / 'teacher.pth')

    def cfg(folder, batch_size):
        cfg = distributed_cfg(tmp_path / folder, teacher, batch_size=batch_size, **models)
        cfg.model.update(logits='head.fc', mimic_loss=dict(type='mmsskd.FeatureMimicLoss', normalize='channel'))
        phases = [dict(train='stages', prefix='teacher'), dict(train='all', logits=True, task_weight=0.1)]
        cfg.default_hooks.stage_schedule.phases = phases
        return cfg

    result = two_processes(cfg('two', 16), tmp_path / 'two.py', 29614)
    assert result.returncode == 0, result.stdout + result.stderr
    monkeypatch.syspath_prepend(str(ROOT / 'tests'))
    import rank_dump  # noqa: F401

    train(cfg('one', 32))
    for a, b in zip(steps(tmp_path / 'two', 0), steps(tmp_path / 'one', 0), strict=True):
        for name, value in b['state_dict'].items():
            torch.testing.assert_close(a['state_dict'][name], value, rtol=0, atol=1e-5)
