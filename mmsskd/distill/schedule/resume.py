"""Resume: whether, and where, a run can go on from a checkpoint."""

import os
from collections.abc import Sequence
from functools import partial

from mmengine.dist import is_main_process
from mmengine.hooks import CheckpointHook, Hook
from mmengine.runner import EpochBasedTrainLoop, Runner
from torch import Tensor

from ...errors import ConfigError
from ...utils.files import remove_parts, write_text
from ...utils.work_dir import checkpoint_to_resume
from ..build import misfits
from ..distiller import StagewiseDistiller
from ..phases import LATER, Phase
from .mmengine_private import choose_checkpoint, is_resuming, validation_is_due, write_whole_checkpoints


class GoOn(Hook):
    """Bring a run that is resumed to where the uninterrupted one was: its folder, its best checkpoint, its last validation.

    It comes after all other hooks in ``before_train``: what it validates is saved by them.

    Example:
        >>> GoOn.priority
        'LOWEST'
    """

    priority = 'LOWEST'

    def __init__(self):
        self.resumed, self.validated = False, None

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        self.resumed, self.validated = is_resuming(runner), checkpoint.get('validated')

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        checkpoint['validated'] = self.validated

    def before_val_epoch(self, runner: Runner) -> None:
        self.validated = _step(runner)

    def before_train(self, runner: Runner) -> None:
        if is_main_process():
            remove_parts(runner.work_dir)
        if not self.resumed:
            return
        for hook in runner.hooks:
            if isinstance(hook, CheckpointHook):
                _name_files_here(runner, hook)
        if runner.val_loop is not None and self.validated != _step(runner) and validation_is_due(runner.train_loop):
            runner.logger.info('the checkpoint was saved before the validation that was due then: it is made up')
            runner.val_loop.run()


def _step(runner: Runner) -> int:
    """Epochs or iterations that are done."""
    return runner.epoch if isinstance(runner.train_loop, EpochBasedTrainLoop) else runner.iter


def _name_files_here(runner: Runner, hook: CheckpointHook) -> None:
    """Give a checkpoint hook the files of a work dir that may have been moved since."""

    def here(path: str | None) -> str | None:
        return path and os.path.join(hook.out_dir, os.path.basename(path))

    hub = runner.message_hub
    for key in [key for key in hub.runtime_info if key.startswith('best_ckpt')]:
        hub.update_info(key, here(hub.get_info(key)))
    hook.best_ckpt_path = here(getattr(hook, 'best_ckpt_path', None))
    hook.best_ckpt_path_dict = {key: here(path) for key, path in getattr(hook, 'best_ckpt_path_dict', {}).items()}
    last = os.path.join(hook.out_dir, hook.filename_tmpl.format(_step(runner)))
    if os.path.isfile(last):
        hook.last_ckpt = last  # which it saves again with a better best score
        if is_main_process():
            write_text(os.path.join(runner.work_dir, 'last_checkpoint'), last)


def prepare(runner: Runner) -> None:
    """Let a run write whole checkpoints, and go on from one where it is to be resumed. For ``before_run``."""
    choose_checkpoint(runner, partial(checkpoint_to_resume, say=runner.logger.warning))
    write_whole_checkpoints(runner)
    runner.register_hook(GoOn())


def schedule_state(distiller: StagewiseDistiller, phases: Sequence[Phase], index: int, by_epoch: bool) -> dict:
    """The state of the schedule in a checkpoint: where it is, what it was, and the gradients of an unfinished accumulation."""
    with distiller.own_names():
        gradients = {name: p.grad.cpu() for name, p in distiller.named_parameters() if p.grad is not None}
    return dict(
        phase=index,
        phases=[phase.fingerprint() for phase in phases],
        by_epoch=by_epoch,
        gradients=gradients,
    )


def restore_gradients(distiller: StagewiseDistiller, gradients: dict[str, Tensor]) -> None:
    """Put back the gradients of an unfinished accumulation."""
    for name, parameter in distiller.named_parameters():
        if name in gradients:
            parameter.grad = gradients[name].to(parameter.device)


def check_resumable(checkpoint: dict, distiller: StagewiseDistiller, by_epoch: bool) -> dict:
    """Return what the run put into its checkpoint, if it was a stage-by-stage run with this student and this kind of loop.

    Raises:
        ConfigError: It is not.
    """
    saved = checkpoint.get('stage_schedule')
    if saved is None:
        raise ConfigError(
            'the checkpoint to resume was not written by a stage-by-stage run. To start from its weights set '
            'model.student_checkpoint and remove --resume.'
        )
    if saved['by_epoch'] != by_epoch:
        was, now = ('iterations', 'epochs') if by_epoch else ('epochs', 'iterations')
        raise ConfigError(
            f'the checkpoint is of a run that counts {was}, this one counts {now}; set train_cfg as it was'
        )
    problems = misfits(checkpoint['state_dict'], distiller.state_dict())
    if problems:
        raise ConfigError(
            'the checkpoint to resume does not fit the student of this run.\n  '
            + '\n  '.join(problems)
            + '\n  Set model as it was, resume an earlier checkpoint, or start anew.'
        )
    return saved


def check_same_schedule(saved: dict, phases: Sequence[Phase], step: int, index: int) -> None:
    """Refuse to resume when a phase that the checkpoint has been through, or is in, has changed.

    Args:
        saved: What the run put into the checkpoint.
        phases: The schedule now.
        step: Epoch or iteration of the checkpoint.
        index: The phase that holds ``step`` now.
    """
    been_in = index + 1 if step > phases[index].begin else index
    for i, phase in enumerate(phases[:been_in]):
        was, now = saved['phases'][i] if i < len(saved['phases']) else {}, phase.fingerprint()
        was, now = {**LATER, **was}, {**LATER, **now}
        changed = [f'{key} is {now[key]!r}, was {was.get(key)!r}' for key in now if was.get(key) != now[key]]
        if changed:
            raise ConfigError(
                f'the schedule has changed since the checkpoint was written. Phase {i + 1}: {"; ".join(changed)}. Phases that the '
                'checkpoint has not reached may change; put this one back, or start anew in another work_dir.'
            )


def begin_epoch_anew(checkpoint: dict, begun: int, logger) -> None:
    """Set a checkpoint that was taken within an epoch back to that epoch's first iteration, ``begun``, and warn."""
    meta = checkpoint['meta']
    if meta['iter'] != begun:
        logger.warning(
            f'the checkpoint was taken within epoch {meta["epoch"] + 1}, which begins anew: the result will not be that of a run '
            'without a break. Checkpoints at the end of epochs (CheckpointHook by_epoch=True) do not have this limit.'
        )
        meta['iter'] = begun
