"""A hook for the two-process tests, imported by their config: each rank writes what it has at the end of every phase."""

import os

import torch
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

from mmsskd.distill.schedule.runner_state import unwrap


@HOOKS.register_module()
class RankDump(Hook):
    priority = 'LOWEST'

    def __init__(self, folder: str, interval: int = 1):
        self.folder, self.interval = folder, interval

    def _dump(self, runner, step):
        wrapper = runner.model
        checkpoint: dict = {}
        runner.call_hook('before_save_checkpoint', checkpoint=checkpoint)
        reduced = [p for p in wrapper.parameters() if p.requires_grad]
        torch.save(
            dict(
                state_dict=unwrap(wrapper).state_dict(),
                gradients=checkpoint['stage_schedule']['gradients'],
                trains=sum(p.numel() for p in reduced),
                wrapper=type(wrapper).__name__,
                find_unused=getattr(wrapper, 'find_unused_parameters', None),
            ),
            os.path.join(self.folder, f'step{step}_rank{os.environ.get("RANK", "0")}.pth'),
        )

    def after_train_epoch(self, runner):
        if runner.max_epochs > 1:
            self._dump(runner, runner.epoch + 1)

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if runner.max_epochs == 1 and (runner.iter + 1) % self.interval == 0:
            self._dump(runner, runner.iter + 1)
