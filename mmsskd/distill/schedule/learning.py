"""Learning: whether a phase can learn anything with its recipe, before training; and whether it did, at its end."""

import warnings
from collections.abc import Iterable, Sequence

import torch
from mmengine.logging import MessageHub, MMLogger
from mmengine.optim import OptimWrapper
from mmengine.runner import Runner
from mmengine.utils.dl_utils.parrots_wrapper import _BatchNorm
from torch import Tensor
from torch.utils.data import DataLoader, SequentialSampler

from ...errors import ConfigError, describe
from ..distiller import StagewiseDistiller
from ..losses import FeatureMimicLoss
from ..phases import HEAD, Phase

MOST_STEPS = 200_000  # of schedulers that are walked through before training: a second or two
NEARLY_ZERO = 1e-6  # of the highest learning rate of a phase
FEWEST = 20  # iterations of a phase from which something may be concluded
MOST_VALUES = 256  # of each parameter
LEAST_MOVED = 1e-6  # of the length of the weights
FALLEN = 0.98  # of the loss at the beginning, at most, where what trains started from nothing
RISEN = 1.5  # of it, at most, where it started from trained weights
GOOD = 0.05  # loss of a stage that need not fall any further
MOST_IDLE = 0.34  # share of a phase without a learning rate up to which nothing is said


# -- before training ---------------------------------------------------------------------------------------------------


def check_learning(
    runner: Runner, distiller: StagewiseDistiller, phase: Phase, loader: DataLoader, iterations: int, where: str
) -> None:
    """Look at the recipe of a phase, with its optimizer and schedulers in the Runner, which are used up.

    Raises:
        ConfigError: It makes a single step, or a scheduler fails on the way.
    """
    wrapper = runner.optim_wrapper
    counts = phase.optim_wrapper.get('accumulative_counts', 1)
    if counts > iterations:
        raise ConfigError(
            f'{where}: optim_wrapper.accumulative_counts={counts}, but the phase has only {iterations} iterations, so it would '
            f'make a single step; set it to a fraction of {iterations}, or make the phase longer'
        )
    key = 'train_dataloader' if not phase.train_dataloader else f'{where}: train_dataloader'
    if _in_order(loader):
        runner.logger.warning(
            f'{key}: its sampler does not shuffle, so each epoch sees the same batches in the same order, of few classes where '
            "the data set is sorted; set sampler=dict(type='DefaultSampler', shuffle=True)"
        )
    modules = distiller.training_modules().values()
    if loader.batch_size == 1 and any(isinstance(module, _BatchNorm) and module.training for module in modules):
        runner.logger.warning(
            f'{where}: batch_size=1 with batch normalization, which then takes the statistics of a single image; make the batch '
            'larger, or normalize otherwise (norm_cfg, or norm_eval=True with pretrained statistics)'
        )
    _check_keys_match(runner, distiller, phase, where)
    if isinstance(wrapper, OptimWrapper) and isinstance(runner.param_schedulers, list):
        _check_rates(runner, phase, iterations, where)


def _in_order(loader: DataLoader) -> bool:
    sampler = getattr(loader.batch_sampler, 'sampler', loader.sampler)
    return len(loader) > 1 and (isinstance(sampler, SequentialSampler) or getattr(sampler, 'shuffle', None) is False)


def _check_keys_match(runner: Runner, distiller: StagewiseDistiller, phase: Phase, where: str) -> None:
    """A key of ``custom_keys`` that sets a learning rate must be part of a parameter's name; MMEngine does not look."""
    keys = (phase.optim_wrapper.get('paramwise_cfg') or {}).get('custom_keys') or {}
    names = [name.removeprefix('student.') for name, _ in distiller.named_parameters()]
    for key, options in keys.items():
        if options.get('lr_mult', 1) != 1 and not any(key in name for name in names):
            runner.logger.warning(
                f"{where}: {key!r} in optim_wrapper.paramwise_cfg.custom_keys is part of no parameter's name, so its lr_mult "
                f'changes nothing; names are those of the plain student, such as {names[0]!r}'
            )


def _check_rates(runner: Runner, phase: Phase, iterations: int, where: str) -> None:
    """Walk through the learning rates of the phase."""
    groups, by_epoch = runner.optim_wrapper.optimizer.param_groups, runner.train_loop.max_epochs is not None
    del groups[1:]  # all follow the same schedulers
    schedulers = [each for each in runner.param_schedulers if not getattr(each, 'need_step_args', False)]
    each_epoch = [each for each in schedulers if each.by_epoch]
    each_iteration = [each for each in schedulers if not each.by_epoch]
    in_epoch = iterations // phase.length if by_epoch else iterations
    rates, steps = [], 0
    for _ in range(iterations // in_epoch):
        active = [each for each in each_iteration if each.last_step + each.begin < each.end]
        for _ in range(in_epoch if active else 1):
            rates.append((groups[0]['lr'], 1 if active else in_epoch))
            _step(active, where)
        _step(each_epoch, where)
        steps += len(active) * in_epoch
        if steps > MOST_STEPS:
            break
    highest = max(rate for rate, _ in rates)
    idle = sum(count for rate, count in rates if rate <= NEARLY_ZERO * highest) / sum(count for _, count in rates)
    if idle > MOST_IDLE:
        runner.logger.warning(
            f'{where}: its learning rate is 0 in {idle:.0%} of its iterations; look at begin, end, factor and eta_min of its '
            'param_scheduler, which count from the start of the phase'
        )


def _step(schedulers: Sequence, where: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # of steps without the optimizer's
        for scheduler in schedulers:
            try:
                scheduler.step()
            except Exception as error:
                raise ConfigError(
                    f'{where}: its param_scheduler fails in the middle of the phase: {type(scheduler).__name__}: {describe(error)}'
                ) from error


# -- at the end of a phase ---------------------------------------------------------------------------------------------


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
        self.check_moved(runner.logger, position)
        if ended:
            self.check_fallen(runner.logger, runner.message_hub, position)

    def check_moved(self, logger: MMLogger, position: str) -> None:
        """Warn once of parts that stand still."""
        for part, before in self.before.items():
            if part not in self.still and share_moved(before, values_of(self.parts[part])) < LEAST_MOVED:
                self.still.add(part)
                logger.warning(
                    f'{position}: the weights of {part} have not moved. Look at the learning rate, clip_grad and paramwise_cfg '
                    '(lr_mult) of its optim_wrapper, and at the weights of its losses'
                )

    def check_fallen(self, logger: MMLogger, hub: MessageHub, position: str) -> None:
        """Warn of stages that do not follow the teacher, and of a task loss that has not fallen, at the end of the phase."""
        for stage in self.phase.mimic:
            first, last = _ends(hub, f'train/loss_mimic_{stage}')
            error = _latest(hub, f'val/relative_error_{stage}', _ends(hub, f'train/relative_error_{stage}')[1])
            plain = isinstance(
                self.distiller.mimic_loss_of(stage), FeatureMimicLoss
            )  # the cosine leaves the length open
            if first is None or last is None or stage not in self.phase.train:
                continue
            if plain and error is not None and error > 1:
                logger.warning(
                    f'{position}: the relative error of {stage} is {error:.3g}, above 1: worse than a constant. Likely causes: a '
                    'learning rate too high, a phase too short for the statistics of batch normalization, or validation images '
                    'that are prepared otherwise than training images'
                )
            elif stage in self.begins and last > FALLEN * first and last > GOOD:
                logger.warning(
                    f'{position}: loss_mimic_{stage} has not fallen, from {first:.3g} to {last:.3g}. Likely causes: a learning '
                    'rate too low or too high, or a phase too short'
                )
        first, last = _ends(hub, 'train/loss') if self.phase.task_loss else (None, None)
        if first is not None and last is not None and last > (FALLEN if HEAD in self.begins else RISEN) * first:
            logger.warning(
                f'{position}: the task loss has not fallen, from {first:.3g} to {last:.3g}. Likely causes: a learning rate too low '
                'or too high, labels that do not belong to the images, or features of no use'
            )


def values_of(parameters: Iterable[Tensor]) -> Tensor:
    """A sample of the values of parameters, (N,) of float32: some hundred of each, always the same ones."""
    flat = [parameter.detach().flatten() for parameter in parameters]
    return torch.cat([values[:: -(-len(values) // MOST_VALUES) or 1].float() for values in flat])


def share_moved(before: Tensor, after: Tensor) -> float:
    """Length of the way from ``before`` to ``after`` as a share of the length of ``before``."""
    return ((after - before).norm() / before.norm().clamp_min(torch.finfo(torch.float32).tiny)).item()


def _ends(hub: MessageHub, key: str) -> tuple[float | None, float | None]:
    """Means of a logged value over the first and the last tenth of the phase; None where it is too short to say anything."""
    if key not in hub.log_scalars:
        return None, None
    values = hub.get_scalar(key).data[0]
    if len(values) < FEWEST:
        return None, None
    count = max(len(values) // 10, 3)
    return float(values[:count].mean()), float(values[-count:].mean())


def _latest(hub: MessageHub, key: str, default: float | None) -> float | None:
    return float(hub.get_scalar(key).current()) if key in hub.log_scalars else default
