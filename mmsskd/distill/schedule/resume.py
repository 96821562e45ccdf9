"""Resume: a run that is asked to end does so where it can go on; whether, and where, it can, from which checkpoint."""

import hashlib
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import get_world_size, is_main_process
from mmengine.hooks import CheckpointHook, Hook
from mmengine.runner import EpochBasedTrainLoop, Runner
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ...errors import ConfigError
from ...utils.files import remove_parts, write_text
from ...utils.work_dir import checkpoint_to_resume, newest_checkpoint
from ..build import misfits, resolve_model_cfg, without_init
from ..distiller import StagewiseDistiller
from ..export import plain_config
from ..phases import Phase
from .data_checks import plain_datasets
from .mmengine_private import (
    choose_checkpoint,
    is_resuming,
    save_on_this_rank,
    validation_is_due,
    write_whole_checkpoints,
)


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
    if saved is None or 'pins' not in checkpoint:
        raise ConfigError(
            'the checkpoint to resume was not written by a stage-by-stage run of this version. To start from its weights set '
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
        changed = [f'{key} is {now[key]!r}, was {was.get(key)!r}' for key in now if was.get(key) != now[key]]
        if changed:
            raise ConfigError(
                f'the schedule has changed since the checkpoint was written. Phase {i + 1}: {"; ".join(changed)}. Phases that the '
                'checkpoint has not reached may change; put this one back, or start anew in another work_dir.'
            )


def begin_epoch_anew(checkpoint: dict, begun: int, logger) -> None:
    """Set a checkpoint that was taken within an epoch back to that epoch's first iteration, ``begun``, and warn.

    Gradients that were accumulated until then are of batches that come again.
    """
    meta = checkpoint['meta']
    if meta['iter'] != begun:
        logger.warning(
            f'the checkpoint was taken within epoch {meta["epoch"] + 1}, which begins anew: the result will not be that of a run '
            'without a break. Checkpoints at the end of epochs (CheckpointHook by_epoch=True) do not have this limit.'
        )
        meta['iter'] = begun
        checkpoint['stage_schedule']['gradients'] = {}


# -- pins: what the result of a run depends on, kept in its checkpoints and compared on resume -------------------------


# options of the model that are pinned elsewhere, or do not change what is learned
ELSEWHERE = (
    'student', 'teacher', 'teacher_checkpoint', 'student_checkpoint', 'data_preprocessor', 'input_shape', 'fold_teacher', 'type',
)  # fmt: skip
MOST_HASHED = 64 * 2**20  # bytes of a list of images; of a longer one the size counts
MOST_LOOKED_AT = 256  # images of a set without a list
FEW = 0.01  # by which the length of a phase may change with its data: an image or two that cannot be read


def pins_of(runner: Runner, distiller: StagewiseDistiller, loaders: Sequence[DataLoader]) -> dict:
    """Pin a run that is set up, with a loader for each phase, as plain data: dicts, lists, text and numbers."""
    model, ranks = runner.cfg.model, get_world_size()
    data = {id(loader): data_of(loader.dataset) for loader in loaders}
    return dict(
        student_config=as_data(plain_config(runner.cfg).to_dict()),
        teacher=as_data(without_init(resolve_model_cfg(model.teacher, 'teacher'))),
        teacher_weights=hash_of(distiller.teacher.state_dict()),
        model={key: as_data(value) for key, value in model.items() if key not in ELSEWHERE and value is not None},
        ranks=ranks,
        phases=[dict(batch=batch_of(loader) * ranks, batches=len(loader), data=data[id(loader)]) for loader in loaders],
        validation=None if runner.val_loop is None else data_of(runner.val_loop.dataloader.dataset),
    )


def check_pins(checkpoint: dict, now: dict, phases: Sequence[Phase], reached: int, by_epoch: bool, logger) -> None:
    """Compare the pins of a checkpoint with those of the run that resumes it.

    What has changed is refused where the run would be another one: the networks, the teacher's weights, the losses, the batch
    over all ranks. Another number of ranks with the same batch, and other data, are said once; other data are refused where they
    change the length of a phase. Of phases that were not reached, batch and data may change, as the phases themselves may. With
    other validation images the scores so far mean nothing, so the teacher is measured anew and the best checkpoint is chosen
    from now on.

    Args:
        checkpoint: Its scores are dropped where they mean nothing any more.
        now: The pins of the run.
        phases: The schedule now.
        reached: How many phases the checkpoint has been in.
        by_epoch: Whether the run counts epochs, whose length follows from the data.
        logger: Of the run.

    Raises:
        ConfigError: The message names what has changed, and the ways out.
    """
    was = checkpoint['pins']
    anew = 'put it back, or start anew in another work_dir'
    for name, old, new in (
        ('model.student', was['student_config']['model'], now['student_config']['model']),
        ('model.teacher', was['teacher'], now['teacher']),
        ('model', was['model'], now['model']),
    ):
        changed = [f'{key} is {b!r}, was {a!r}' for key, a, b in _differences(old, new, name)]
        if changed:
            raise ConfigError(f'the run that wrote the checkpoint was another one: {"; ".join(changed[:4])}; {anew}')
    if was['teacher_weights'] != now['teacher_weights']:
        raise ConfigError(
            f'model.teacher_checkpoint holds other weights (sha256 {now["teacher_weights"][:12]}) than those that the student has '
            f'followed so far (sha256 {was["teacher_weights"][:12]}); {anew}, there with model.student_checkpoint to begin with '
            'the weights of this one'
        )
    if was['ranks'] != now['ranks']:
        logger.warning(
            f'{now["ranks"]} ranks, the checkpoint was written by {was["ranks"]}: the result will not be that of a run without a '
            'break to the bit'
        )
    for number, (phase, old, new) in enumerate(zip(phases[:reached], was['phases'], now['phases']), 1):
        _check_phase(f'phase {number} ({phase.name})', old, new, now['ranks'], by_epoch, logger)
    if was['validation'] is not None and was['validation'] != now['validation']:
        logger.warning(
            f'val_dataloader: {_other_data(was["validation"], now["validation"])}; its scores so far are dropped'
        )
        values = checkpoint['message_hub'].get('runtime_info', {})
        for key in [key for key in values if key == 'teacher_metrics' or key.startswith('best_')]:
            del values[key]
            checkpoint['message_hub'].get('resumed_keys', {}).pop(key, None)


def _check_phase(where: str, old: dict, new: dict, ranks: int, by_epoch: bool, logger) -> None:
    """Refuse another batch, and data that change the length of a phase; say other data."""
    if old['batch'] != new['batch']:
        share = f'; on {ranks} ranks, batch_size={old["batch"] / ranks:g} gives that' if ranks > 1 else ''
        raise ConfigError(
            f'{where}: a step takes {new["batch"]} images, in the run that wrote the checkpoint it took {old["batch"]}{share}. The '
            'learning rates were laid out for those: set batch_size as it was, or start anew in another work_dir'
        )
    if old['data'] != new['data']:
        told = f'{where}: {_other_data(old["data"], new["data"])}'
        if by_epoch and abs(new['batches'] - old['batches']) > FEW * old['batches']:
            raise ConfigError(
                f'{told}. An epoch has {new["batches"]} batches, had {old["batches"]}, and the learning rates were laid out for '
                'those: put the data back, or start anew in another work_dir'
            )
        logger.warning(f'{told}; the run goes on with them, and its result is that of neither')


def _other_data(old: list | None, new: list | None) -> str:
    changed = [f'{key} is {b!r}, was {a!r}' for key, a, b in _differences(old, new, 'dataset')]
    return f'the data are not those of the run that wrote the checkpoint: {"; ".join(changed[:3])}'


# -- what is pinned ----------------------------------------------------------------------------------------------------


def as_data(value):
    """A config as plain data; types by their names, as a dumped config has them."""
    if isinstance(value, Mapping):
        return {str(key): as_data(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [as_data(item) for item in value] if isinstance(value, list) else tuple(map(as_data, value))
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    return f'{value.__module__}.{value.__qualname__}' if isinstance(value, (type, Callable)) else repr(value)


def hash_of(state: Mapping[str, Tensor]) -> str:
    """The SHA-256 of a state dict, whatever the device and order of its tensors."""
    digest = hashlib.sha256()
    for name in sorted(name for name in state if torch.is_tensor(state[name])):
        value = state[name].detach().cpu().contiguous()
        digest.update(f'{name} {value.dtype} {tuple(value.shape)}'.encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def batch_of(loader: DataLoader) -> int:
    """Images that one rank gets in a step; 0 where nobody says."""
    return loader.batch_size or getattr(loader.batch_sampler, 'batch_size', 0)


def data_of(outer: Dataset) -> list[dict]:
    """Marks that tell the data sets in ``outer`` from others, wherever they are: a list for each has moved with its images."""
    return [_one_set(dataset) for _, dataset in plain_datasets(outer)]


def _one_set(dataset: Dataset) -> dict:
    count = len(dataset) if hasattr(dataset, '__len__') else -1
    classes = getattr(dataset, 'metainfo', {}).get('classes')
    found = dict(type=type(dataset).__name__, images=count, classes=_brief_hash(repr(classes)))
    files = [getattr(dataset, key, None) for key in ('ann_file', 'rec')]
    files = [file for file in files if isinstance(file, str) and os.path.isfile(file)]
    found['lists'] = [_file(file) for file in files]
    if not files:
        found['names'] = _brief_hash(repr(_names(dataset, count)))
    return found


def _file(path: str) -> str:
    size = os.path.getsize(path)
    if size > MOST_HASHED:
        return f'{size} bytes'
    return f'{size} bytes, sha256 {hashlib.sha256(Path(path).read_bytes()).hexdigest()[:12]}'


def _names(dataset, count: int) -> list:
    """Names, with their folders, and labels of some of the images of a set that is made of files."""
    if not hasattr(dataset, 'get_data_info') or count < 1 or 'img_path' not in dataset.get_data_info(0):
        return []
    infos = [dataset.get_data_info(i) for i in range(0, count, max(count // MOST_LOOKED_AT, 1))]
    return [('/'.join(str(info['img_path']).split('/')[-2:]), info.get('gt_label')) for info in infos]


def _brief_hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _differences(old, new, path: str) -> list[tuple[str, object, object]]:
    """The innermost keys in which two pieces of data differ, with both values; a tuple is as good as a list."""
    if isinstance(old, dict) and isinstance(new, dict):
        keys = list(dict.fromkeys([*old, *new]))
        return [each for key in keys for each in _differences(old.get(key), new.get(key), f'{path}.{key}')]
    if isinstance(old, (list, tuple)) and isinstance(new, (list, tuple)) and len(old) == len(new):
        pairs = enumerate(zip(old, new))
        return [each for i, (a, b) in pairs for each in _differences(a, b, f'{path}[{i}]')]
    return [] if old == new else [(path, old, new)]


# -- interruption: a run that is asked to end, as by a cluster that pre-empts it ---------------------------------------
#
# SIGTERM, SIGUSR1 and SIGHUP ask. A run that counts iterations finishes its iteration, saves a checkpoint and ends. One that counts
# epochs resumes at the beginning of an epoch: at the end of one it saves, within one it ends at once, and the checkpoint of the
# last epoch that was saved stays as it is. The exit code is 128 and the number of the signal, as where a signal has killed.


SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP)
GRACE = 25  # seconds that another rank waits to be ended with the first one, which saves
_asked: list[int] = []
_before: dict[int, Any] = {}


def watch_signals() -> None:
    """Note signals from now on, in place of being killed by them. One that is ignored, as under ``nohup``, stays so."""
    _asked.clear()
    owner = os.getpid()

    def note(number: int, frame) -> None:
        if os.getpid() != owner:  # a worker of a data loader has inherited this
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        elif not is_main_process():
            signal.alarm(GRACE)  # it goes on, as the first rank needs it to finish the iteration
        _asked.append(number)

    for number in SIGNALS:
        try:
            if number not in _before and signal.getsignal(number) != signal.SIG_IGN:
                _before[number] = signal.signal(number, note)
        except ValueError:  # outside the main thread nothing can be noted
            return


def ignore_signals_no_more() -> None:
    """Let signals do again what they did before :func:`watch_signals`."""
    _asked.clear()
    while _before:
        number, handler = _before.popitem()
        signal.signal(number, handler)


def asked() -> int | None:
    """The signal that has asked the run of this process to end, if one has."""
    return _asked[0] if _asked else None


def count_on_cpu(checkpoint: Mapping) -> None:
    """Put the numbers of steps of an optimizer where torch looks at them.

    MMEngine loads a checkpoint to the GPU, where Adam would wait for the number of each parameter in each step. One that counts
    there takes them back when it loads.
    """
    states = (checkpoint.get('optimizer') or {}).get('state') or {}
    for state in states.values():
        if isinstance(state.get('step'), torch.Tensor):
            state['step'] = state['step'].cpu()


def end_if_asked(runner: Runner, by_epoch: bool, within: bool) -> None:
    """End the process where a signal has asked for it; on the first rank, which the others follow.

    Args:
        runner: Between two iterations, with all of the last one done.
        by_epoch: Whether the run counts epochs.
        within: Whether an epoch of such a run has begun, so that a checkpoint could not be resumed to the bit.

    Raises:
        SystemExit: With code 128 and the number of the signal.
    """
    number = asked()
    if number is None or not is_main_process():
        return
    done, unit = (runner.epoch, 'epoch') if by_epoch else (runner.iter, 'iter')
    name = f'{unit}_{done}.pth'
    if not within and done and not Path(runner.work_dir, name).is_file():
        save_on_this_rank(runner, name, dict(epoch=runner.epoch, iter=runner.iter))
        write_text(Path(runner.work_dir, 'last_checkpoint'), os.path.join(runner.work_dir, name))
    last = newest_checkpoint(runner.work_dir)
    way = f'--resume goes on from {last}' if last else 'nothing was saved yet, so it begins anew'
    lost = f', epoch {done + 1} begins anew' if within and last else ''
    print(f'ended by {signal.Signals(number).name}: {way}{lost}', file=sys.stderr, flush=True)
    sys.exit(128 + number)
