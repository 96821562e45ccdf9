"""A weight that is not finite is neither saved nor exported, and the last good checkpoint stays."""

import pytest
import torch
from helpers import run_cfg, train, weights
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

from mmsskd.distill.build import not_finite
from mmsskd.distill.export import export_checkpoint
from mmsskd.errors import ConfigError, NonFiniteLossError


@HOOKS.register_module()
class InfiniteGradient(Hook):
    """Does to a weight what a step does whose loss is finite and whose gradient is not."""

    priority = 'VERY_HIGH'

    def __init__(self, iteration, buffer=False):
        self.iteration, self.buffer = iteration, buffer

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if runner.iter + 1 == self.iteration:
            last = runner.model.student.backbone.layer3[-1]
            (last.bn2.running_var if self.buffer else last.conv2.weight).data.view(-1)[0] = float('nan')


def diverging(work_dir, teacher_path, iteration, iters=2, **changes):
    hooks = [dict(type='InfiniteGradient', iteration=iteration, buffer=iteration % 2 == 1)]
    cfg = run_cfg(work_dir, teacher_path, iters=iters, custom_hooks=hooks)
    cfg.default_hooks.checkpoint.update(changes)
    return cfg


@pytest.mark.parametrize(('iteration', 'last'), [(3, 'iter_2.pth'), (6, 'iter_5.pth'), (8, 'iter_7.pth')])
def test_before_a_checkpoint_at_a_phase_end_and_at_the_end(tmp_path, teacher_path, iteration, last):
    cfg = diverging(tmp_path, teacher_path, iteration, max_keep_ckpts=1)
    words = rf'phase {(iteration + 1) // 2}/4 .* 1 weights or buffers are not any more.*last good.*{last}'
    with pytest.raises(NonFiniteLossError, match=words):
        train(cfg)
    assert (tmp_path / last).is_file() and not (tmp_path / 'student.pth').exists()
    assert not any(not_finite(weights(file)) for file in tmp_path.glob('*.pth'))


def test_within_a_phase_without_checkpoints(tmp_path, teacher_path):
    cfg = diverging(tmp_path, teacher_path, 3, interval=-1, save_last=False)
    with pytest.raises(NonFiniteLossError, match=r'phase 2/4 .*last good.*phase1_layer1.pth'):
        train(cfg)
    assert not (tmp_path / 'student.pth').exists()


def test_epochs(tmp_path, teacher_path):
    cfg = diverging(tmp_path, teacher_path, 12, iters=None, interval=-1, save_last=False)
    with pytest.raises(NonFiniteLossError, match=r'phase 4/4 head.*last good.*phase3_layer3.pth'):
        train(cfg)
    assert not (tmp_path / 'student.pth').exists()


def test_after_a_loss_that_is_not_finite_no_weights_are_saved_that_were_not_before(tmp_path, teacher_path):
    cfg = diverging(tmp_path, teacher_path, 6, iters=4, interval=4)
    cfg.default_hooks.stage_schedule.phases = [dict(train='layer3'), dict(train='head')]
    with pytest.raises(
        NonFiniteLossError,
        match=r'iteration 7 .*before this step.*good checkpoint is .*(iter_4|phase1_layer3).pth',
    ):
        train(cfg)
    assert not list(tmp_path.glob('non_finite*'))


def test_export_of_such_a_checkpoint(tmp_path, teacher_path):
    train(run_cfg(tmp_path, teacher_path, iters=1))
    checkpoint = torch.load(tmp_path / 'iter_4.pth', weights_only=False)
    checkpoint['state_dict']['head.fc.bias'][3] = float('inf')
    torch.save(checkpoint, tmp_path / 'bad.pth')
    with pytest.raises(ConfigError, match=r'the student is not exported: 1 of its .*\(head.fc.bias\)'):
        export_checkpoint(str(tmp_path / 'bad.pth'), str(tmp_path / 'out'))
    assert not (tmp_path / 'out').exists()
