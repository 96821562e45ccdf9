"""Checks of a run: what cannot work is refused before it trains, what was not learned and numbers that are not finite are said.

What was warned of is said again at the end.
"""

import logging
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NoReturn

import torch
from mmengine.dist import get_rank
from mmengine.hooks import CheckpointHook, EarlyStoppingHook, EMAHook, SyncBuffersHook
from mmengine.logging import MessageHub, MMLogger
from mmengine.runner import Runner
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.data import DataLoader

from ...errors import ConfigError, NonFiniteLossError, some
from ...utils.work_dir import newest_checkpoint
from ..build import not_finite
from ..distiller import StagewiseDistiller
from ..losses import FeatureMimicLoss
from ..phases import HEAD, Phase, loader_keys
from .mmengine_private import save_on_this_rank

ENDLESS = ('InfiniteSampler', 'MultiSourceSampler')  # of mmengine and mmdet; their length is that of the data set
COUNT_ITERATIONS = (
    "but this run counts epochs. Set sampler=dict(type='DefaultSampler', shuffle=True) there; or count iterations: "
    "train_cfg=dict(type='IterBasedTrainLoop', max_iters=1), and `iters` in place of `epochs` in the schedule"
)
PACKAGE = Path(__file__).resolve().parents[2]
LENGTH = 200  # of what is repeated of a warning
MUCH_SMALLER = 0.5  # of the student's backbone: some good pairs have a teacher that is a little smaller
FAR_SMALLER = 5  # times fewer parameters than the teacher; six in the prototype that _say_what_is_known quotes
SHARDED = ('FullyShardedDataParallel', 'MMFullyShardedDataParallel')


def check_strategy(runner: Runner) -> None:
    """Refuse runners and wrappers that cannot change what trains while they run."""
    wrapper = str((runner.cfg.get('model_wrapper_cfg') or {}).get('type', ''))
    if hasattr(runner, 'strategy') or wrapper.rpartition('.')[2] in SHARDED:
        found = type(runner.strategy).__name__ if hasattr(runner, 'strategy') else wrapper
        raise ConfigError(
            f'stage by stage changes what trains during the run, which {found} cannot follow. Use the ordinary Runner with DDP: '
            'remove runner_type, strategy and model_wrapper_cfg from the config.'
        )
    if runner.cfg.get('compile'):
        raise ConfigError('`compile` is not supported: a forward may end at any stage. Remove it from the config.')


def check_load_from(runner: Runner, checkpoint: Mapping, model: nn.Module) -> None:
    """Refuse a ``load_from`` of whose weights none fit the model, and say it where few do. MMEngine loads what fits, if anything.

    Raises:
        ConfigError: With names of both.
    """
    own, key = model.state_dict(), f'load_from={runner.cfg.get("load_from")!r}'
    state = checkpoint.get('state_dict', checkpoint)
    shapes = {name.removeprefix('module.'): getattr(value, 'shape', None) for name, value in state.items()}
    fitting = [name for name, value in own.items() if shapes.get(name) == value.shape]
    if own and not fitting:
        raise ConfigError(
            f'{key}: 0 of the {len(own)} tensors of the model are in it by name and shape. It has {some(sorted(shapes))}; the '
            f'model has {some(sorted(own))}. Rename them (a prefix too many or too few?), or remove load_from.'
        )
    if 2 * len(fitting) < len(own):
        runner.logger.warning(
            f'{key}: only {len(fitting)} of the {len(own)} tensors of the model are in it by name and shape; the others stay as '
            f'they were initialized. It has {some(sorted(shapes))}; the model also has {some(sorted(set(own) - set(fitting)))}'
        )


def check_ends(phases: Sequence[Phase], loaders: Sequence[DataLoader]) -> None:
    """Refuse loaders of a run that counts epochs whose sampler never ends.

    Raises:
        ConfigError: The message names the loader and the sampler.
    """
    for key, loader in zip(loader_keys(phases), loaders):
        for sampler in _samplers_of(loader):
            if any(each.__name__ in ENDLESS for each in type(sampler).__mro__):
                raise ConfigError(f'{key}: {type(sampler).__name__} never ends, {COUNT_ITERATIONS}')


def check_early_stopping(runner: Runner, phases: Sequence[Phase], predicts: Sequence[bool]) -> None:
    """Refuse an EarlyStoppingHook that could act before the last phase: it ends the run, not the phase.

    Args:
        runner: Has the hooks, and says from when on it is validated.
        phases: The schedule.
        predicts: Whether the task metric says something in each phase, so that it is measured there.

    Raises:
        ConfigError: The message names the phase, and the ``val_begin`` with which the hook is allowed.
    """
    begin = (runner.cfg.get('train_cfg') or {}).get('val_begin', 1)
    for number, (phase, measured) in enumerate(zip(phases[:-1], predicts), 1):
        if measured and phase.end >= begin and any(isinstance(hook, EarlyStoppingHook) for hook in runner.hooks):
            raise ConfigError(
                f'custom_hooks: EarlyStoppingHook ends the whole run, and phase {number} ({phase.name}) of {len(phases)} is '
                'validated, so later phases could be left out. It is allowed where the last phase alone is validated: set '
                f'train_cfg.val_begin={phases[-1].begin + 1}, or remove the hook'
            )


def check_still_ends(phase: Phase, loader: DataLoader, batch: int) -> None:
    """Stop an epoch that goes on and on, by a sampler of a kind that :func:`check_ends` does not know.

    Raises:
        ConfigError: ``batch``, counted from 0 in the epoch, is twice what the loader says it has.
    """
    if batch >= 2 * len(loader):
        names = ', '.join(type(sampler).__name__ for sampler in _samplers_of(loader))
        raise ConfigError(
            f'phase {phase.name}: its loader ({names}) has given {batch} batches in one epoch, twice as many as its length says; '
            f'where it never ends, {COUNT_ITERATIONS}'
        )


def _samplers_of(loader: DataLoader) -> list:
    """The samplers of a loader, from the outermost to the one that gives single indices."""
    samplers = [loader.batch_sampler or loader.sampler]
    while getattr(samplers[-1], 'sampler', None) is not None:
        samplers.append(samplers[-1].sampler)
    return samplers


def check_run(runner: Runner, phases: Sequence[Phase], by_epoch: bool, distiller: StagewiseDistiller) -> None:
    """Refuse hooks and phases that do not go together with the model and the run.

    Raises:
        ConfigError: EMA before the head phase, SyncBuffersHook on frozen stages, an adapter that nothing trains, logits that
            the model does not name.
    """
    last_transfer = max((i for i, phase in enumerate(phases) if not phase.learns_task), default=-1)
    learns = phases[last_transfer + 1].begin if last_transfer + 1 < len(phases) else None
    for hook in runner.hooks:
        if isinstance(hook, EMAHook):
            key = 'begin_epoch' if by_epoch else 'begin_iter'
            if learns is None or hook.enabled_by_epoch != by_epoch or getattr(hook, key) < learns + 1:
                fix = (
                    f'set {key}={learns + 1} in it'
                    if learns is not None
                    else 'this schedule has no head phase, so remove it'
                )
                raise ConfigError(
                    f'EMAHook would average weights across stages: {fix}, the first of the phases that learn the task'
                )
        if isinstance(hook, SyncBuffersHook) and runner.distributed:
            raise ConfigError(
                'SyncBuffersHook would touch the statistics of frozen stages; remove it, StageScheduleHook averages what trains'
            )
    _check_starts(runner, phases, distiller)
    _say_what_is_known(runner, phases, distiller)
    trained: set[str] = set()
    for number, phase in enumerate(phases, 1):
        if not any(distiller.parameters_of(part) for part in phase.train):
            raise ConfigError(
                f'phase {number} ({phase.name}): there is no parameter in what it trains ({", ".join(phase.train)}), so it cannot '
                'learn: all of the student belongs to other stages. Remove the phase, or end the last stage earlier (model.stages)'
            )
        trained |= set(phase.mimic) & set(phase.train)
        random = [stage for stage in phase.mimic if distiller.adapter_of(stage) is not None and stage not in trained]
        if random:
            raise ConfigError(
                f'phase {number} ({phase.name}): mimics {random[0]!r} without training it, through an adapter that no phase so far '
                'has trained. Add the stage to train, or let an earlier phase train and mimic it.'
            )
        _check_logits(distiller, phase, f'phase {number} ({phase.name})')


def _check_starts(runner: Runner, phases: Sequence[Phase], distiller: StagewiseDistiller) -> None:
    """Warn of starts that overwrite each other, and of stages that start from nothing and stay so."""
    load_from = runner.cfg.get('load_from')
    if load_from and not runner.cfg.get('resume'):
        taken = 'all' if distiller.init_from_teacher == 'all' else None
        starts = dict(student_checkpoint=distiller.student_checkpoint, init_from_teacher=taken)
        for key, value in starts.items():
            if value:
                runner.logger.warning(
                    f'load_from={load_from!r} overwrites the start that model.{key}={value!r} gives; remove one'
                )
    trained = {part for phase in phases for part in phase.train}
    left = [stage for stage in distiller.stages if stage not in trained and not distiller.starts_trained(stage)]
    if left and not load_from:
        runner.logger.warning(
            f'no phase trains {", ".join(left)}, which start from random weights and stay so: what comes after gets features of '
            'no use. Add them to a phase, or start from trained weights (model.init_from_teacher, model.student_checkpoint, '
            'init_cfg of the backbone).'
        )


def _say_what_is_known(runner: Runner, phases: Sequence[Phase], distiller: StagewiseDistiller) -> None:
    """Quote what was measured where a far smaller student has to copy the teacher's features and no more than its head learns."""
    student, teacher = (
        sum(weight.numel() for weight in model.parameters()) for model in (distiller.student, distiller.teacher)
    )
    follows = any(phase.mimic for phase in phases) and not any(
        phase.learns_task and set(phase.train) != {HEAD} for phase in phases
    )
    if follows and FAR_SMALLER * student < teacher and not runner.cfg.model.get('projector'):
        runner.logger.info(
            f'the student has {teacher / student:.0f} times fewer parameters than the teacher, which its backbone follows alone. '
            'Where all images have labels, such a schedule lost: 66.9 on CIFAR-100 in a prototype, plain training 72.1, '
            'model.projector 76.1. See docs/recipes.md.'
        )


def _check_logits(distiller: StagewiseDistiller, phase: Phase, where: str) -> None:
    """Refuse logits that the model does not name, or that do not reach what trains."""
    if phase.logits and distiller.logits is None:
        raise ConfigError(
            f"{where}: logits=True, but model.logits is not set; name the student's module that gives its logits, "
            "model.logits='head.fc' for instance"
        )
    if phase.logits and not phase.task_loss:
        order = list(distiller.stages)
        mimicked = max((order.index(stage) for stage in phase.mimic), default=-1)
        parts = [part for part in phase.train if part == HEAD or order.index(part) > mimicked]
        names = {name for part in parts for name in distiller.parameters_of(part)}
        missed = sorted(names - distiller.logits.reached)
        if missed:
            raise ConfigError(
                f'{where}: {len(missed)} of the parameters that it trains get no gradient, because the logits '
                f'({distiller.logits.module}) do not depend on them: {", ".join(missed[:5])}. Name a module further back in '
                'model.logits, or set task_loss=True.'
            )


def check_teacher(runner: Runner, distiller: StagewiseDistiller) -> None:
    """Warn of a teacher that is smaller than the student, is the student itself, or never saw an image.

    Called with the weights that training starts from.
    """
    warn, teacher, student = runner.logger.warning, distiller.teacher, distiller.student
    sizes = [
        sum(parameter.numel() for parameter in model.get_submodule('backbone').parameters())
        for model in (teacher, student)
    ]
    if sizes[0] < MUCH_SMALLER * sizes[1]:
        warn(
            f'the teacher has fewer parameters than the student ({sizes[0] / 1e6:.3g} M and {sizes[1] / 1e6:.3g} M in the '
            'backbone): are model.teacher and model.student swapped?'
        )
    own, theirs = student.state_dict(), teacher.state_dict()
    if own.keys() == theirs.keys() and all(torch.equal(own[name], theirs[name]) for name in own):
        warn(
            'the student is the teacher: the same network with the same weights, so there is nothing to learn; give '
            'model.student another architecture, or another start (model.student_checkpoint, model.init_from_teacher)'
        )
    norms = [module for module in teacher.modules() if isinstance(module, _BatchNorm) and module.track_running_stats]
    if norms and not any(norm.running_mean.any() or (norm.running_var != 1).any() for norm in norms):
        warn(
            'the teacher never saw an image: the statistics of all its batch normalization layers are those before training; '
            'does model.teacher_checkpoint name its trained weights?'
        )


class Reminder(logging.Handler):
    """Keep the warnings that code of this package gives a logger.

    Args:
        logger: Of the run.

    Example:
        >>> reminder = Reminder(MMLogger('reminded', log_level='ERROR'))
        >>> reminder.said.append('phase 1: its learning rate is 0 in 80% of its iterations')
        >>> reminder.close_run()
    """

    def __init__(self, logger: MMLogger):
        super().__init__(logging.WARNING)
        self.logger, self.said = logger, list[str]()
        logger.addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno == logging.WARNING and PACKAGE in Path(record.pathname).resolve().parents:
            self.said.append(record.getMessage())

    def close_run(self) -> None:
        """Repeat them in one line, and listen no more."""
        self.logger.removeHandler(self)
        count = len(self.said)
        if count:
            texts = [
                f'({i}) {textwrap.shorten(text, LENGTH, placeholder=" ...")}' for i, text in enumerate(self.said, 1)
            ]
            self.logger.warning(f'{count} warning{"s" if count > 1 else ""}: {" ".join(texts)}')
        self.said.clear()


# -- whether a phase has learned ---------------------------------------------------------------------------------------


FEWEST = 20  # iterations of a phase from which something may be concluded
MOST_VALUES = 256  # of each parameter
LEAST_MOVED = 1e-6  # of the length of the weights
FALLEN = 0.98  # of the loss at the beginning, at most, where what trains started from nothing
RISEN = 1.5  # of it, at most, where it started from trained weights
GOOD = 0.05  # loss of a stage that need not fall any further


class Learning:
    """Whether what a phase trains has moved since it began, and whether its losses have fallen.

    Weights are looked at where the phase is validated and at its end, losses are those that MMEngine has logged: a step waits for
    nothing.

    Args:
        distiller: As it is when a phase begins.
        phases, index: Those of the run, and which one begins.
        loaded: Whether the run started from the weights of another.

    Example:
        >>> from torch import nn
        >>> layer = nn.Linear(2, 2)
        >>> before = values_of(layer.parameters())
        >>> share_moved(before, values_of(layer.parameters()))
        0.0
    """

    def __init__(self, distiller: StagewiseDistiller, phases: Sequence[Phase], index: int, loaded: bool):
        self.distiller, self.phase = distiller, phases[index]
        earlier = {part for each in phases[:index] for part in each.train}
        fresh = [part for part in self.phase.train if part not in earlier and not distiller.starts_trained(part)]
        self.begins = set() if loaded else set(fresh)  # what starts from nothing
        with distiller.own_names():
            parameters = dict(distiller.student.named_parameters())
            self.parts = {
                part: [parameters[name] for name in distiller.parameters_of(part) if parameters[name].requires_grad]
                for part in self.phase.train
            }
        self.before = {part: values_of(trained) for part, trained in self.parts.items() if trained}
        self.still: set[str] = set()

    def check(self, runner: Runner, position: str, ended: bool) -> None:
        """Warn of weights that stand still, and where the phase has ended, of losses that have not fallen."""
        for part, before in self.before.items():
            if part not in self.still and share_moved(before, values_of(self.parts[part])) < LEAST_MOVED:
                self.still.add(part)
                runner.logger.warning(
                    f'{position}: the weights of {part} have not moved. Look at the learning rate, clip_grad and paramwise_cfg '
                    '(lr_mult) of its optim_wrapper, and at the weights of its losses'
                )
        if ended:
            self._check_losses(runner.logger, runner.message_hub, position)

    def _check_losses(self, logger: MMLogger, hub: MessageHub, position: str) -> None:
        """Warn of stages that do not follow the teacher, and of a task loss that has not fallen."""
        for stage in self.phase.mimic:
            loss, error = (_ends(hub, f'train/{key}_{stage}') for key in ('loss_mimic', 'relative_error'))
            if loss is None or stage not in self.phase.train:
                continue
            key = f'val/relative_error_{stage}'
            last = hub.get_scalar(key).current() if key in hub.log_scalars else error and error[1]
            plain = isinstance(
                self.distiller.mimic_loss_of(stage), FeatureMimicLoss
            )  # the cosine leaves the length open
            if plain and last is not None and last > 1:
                logger.warning(
                    f'{position}: the relative error of {stage} is {last:.3g}, above 1: worse than a constant. Likely causes: a '
                    'learning rate too high, a phase too short for the statistics of batch normalization, or validation images '
                    'that are prepared otherwise than training images'
                )
            elif stage in self.begins and loss[1] > max(FALLEN * loss[0], GOOD):
                logger.warning(
                    f'{position}: loss_mimic_{stage} has not fallen, from {loss[0]:.3g} to {loss[1]:.3g}. Likely causes: a '
                    'learning rate too low or too high, or a phase too short'
                )
        task = _ends(hub, 'train/loss') if self.phase.task_loss else None
        if task is not None and task[1] > (FALLEN if HEAD in self.begins else RISEN) * task[0]:
            logger.warning(
                f'{position}: the task loss has not fallen, from {task[0]:.3g} to {task[1]:.3g}. Likely causes: a learning rate '
                'too low or too high, labels that do not belong to the images, or features of no use'
            )


def values_of(parameters: Iterable[Tensor]) -> Tensor:
    """A sample of the values of parameters, (N,) of float32: some hundred of each, always the same ones."""
    flat = [parameter.detach().flatten() for parameter in parameters]
    return torch.cat([values[:: -(-len(values) // MOST_VALUES) or 1].float() for values in flat])


def share_moved(before: Tensor, after: Tensor) -> float:
    """Length of the way from ``before`` to ``after`` as a share of the length of ``before``."""
    return ((after - before).norm() / before.norm().clamp_min(torch.finfo(torch.float32).tiny)).item()


def _ends(hub: MessageHub, key: str) -> tuple[float, float] | None:
    """Means of a logged value over the first and the last tenth of the phase; None where it is too short to say anything."""
    values = hub.get_scalar(key).data[0] if key in hub.log_scalars else ()
    if len(values) < FEWEST:
        return None
    count = max(len(values) // 10, 3)
    return float(values[:count].mean()), float(values[-count:].mean())


# -- numbers that are NaN or infinite: a loss ends the run before its step, a weight before it is saved or exported ----


def checkpoint_is_due(runner: Runner) -> bool:
    """Whether a checkpoint hook saves after this iteration; it may remove an older checkpoint first."""
    hooks = [hook for hook in runner.hooks if isinstance(hook, CheckpointHook) and not hook.by_epoch]
    return any(hook.every_n_train_iters(runner, hook.interval, hook.save_begin) for hook in hooks)


def check_weights(runner: Runner, distiller: StagewiseDistiller, phase: Phase, position: str) -> None:
    """End the run where a weight or buffer is not finite, as after a finite loss with an infinite gradient.

    Args:
        runner, distiller, phase: Of the step that has been made.
        position: Which phase it is, for the message.

    Raises:
        NonFiniteLossError: The message names the weights, and the last checkpoint, which was checked in its time.
    """
    names = not_finite(distiller.state_dict())
    if names:
        raise NonFiniteLossError(
            f'{position}, rank {get_rank()}: the losses were finite, but '
            f'{len(names)} weights or buffers are not any more: {some(names)}. '
            f'{_last_good(runner)} {_remedies(phase)}'
        )


def stop(
    runner: Runner,
    distiller: StagewiseDistiller,
    phase: Phase,
    position: str,
    values: str,
    iteration: int | None = None,
) -> NoReturn:
    """Save a checkpoint on this rank, where its weights are finite, then end the run with a message that says where it was.

    Args:
        runner, distiller, phase: Of the step.
        position: Which phase it is, for the message.
        values: The losses of the step, as text.
        iteration: Its number in the run, from 1; None: it is the current one.

    Raises:
        NonFiniteLossError: Always.
    """
    iteration = runner.iter + 1 if iteration is None else iteration
    if not_finite(dict(distiller.named_parameters())):  # this very forward may have spoilt statistics
        kept = f'The weights were not finite before this step already. {_last_good(runner)}'
    else:
        meta = dict(epoch=runner.epoch, iter=iteration - 1)
        path = save_on_this_rank(runner, f'non_finite_iter_{iteration}_rank{get_rank()}.pth', meta)
        kept = f'The weights as they were before this step are in {path}.'
    raise NonFiniteLossError(
        f'{position}, iteration {iteration} of the run, rank {get_rank()}: {values}. {kept} {_remedies(phase)}'
    )


def _last_good(runner: Runner) -> str:
    """Name the newest checkpoint that can be resumed. None is saved with weights that are not finite."""
    last = newest_checkpoint(runner.work_dir)
    if last is None:
        return f'No checkpoint was saved in {runner.work_dir} before.'
    return f'The last good checkpoint is {last}.'


def _remedies(phase: Phase) -> str:
    return (
        f'Lower the learning rate of this phase ({phase.optim_wrapper.get("optimizer")}), set clip_grad in its optim_wrapper, or '
        'look for images that are not finite after normalization.'
    )
