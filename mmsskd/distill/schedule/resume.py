"""Resume: whether, and where, a run can go on from a checkpoint."""

from collections.abc import Sequence

from torch import Tensor

from ...errors import ConfigError
from ..build import misfits
from ..distiller import StagewiseDistiller
from ..phases import LATER, Phase


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
