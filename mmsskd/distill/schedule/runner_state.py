"""Runner state: what the Runner holds for a phase, made anew at each border, and its batches and random states."""

import copy
import functools
import inspect
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from mmengine.config import ConfigDict
from mmengine.dist import get_rank
from mmengine.hooks import CheckpointHook, LoggerHook
from mmengine.model import is_model_wrapper
from mmengine.optim import build_optim_wrapper
from mmengine.registry import OPTIMIZERS
from mmengine.runner import EpochBasedTrainLoop, Runner
from torch import nn
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from ...errors import ConfigError, candidates, check_keys
from ...utils.states import seed_random_states
from ..build import BESIDE
from ..phases import Phase, default_param_scheduler
from .mmengine_private import forget, scaled_by, set_batch_sampler

CLIPS: dict[str, Callable] = dict(norm=nn.utils.clip_grad_norm_, value=nn.utils.clip_grad_value_)
PARAMWISE = (  # what MMEngine's own constructor reads
    'custom_keys', 'bias_lr_mult', 'bias_decay_mult', 'norm_decay_mult', 'dwconv_decay_mult', 'flat_decay_mult',
    'dcn_offset_lr_mult', 'bypass_duplicate',
)  # fmt: skip


def build_optimization(runner: Runner, phase: Phase, iterations: int) -> None:
    """Give ``runner`` the optimizer wrapper and the schedulers of ``phase``.

    Args:
        runner: Its model is already in the phase and its train loop already has the phase's loader.
        phase: Says the recipe.
        iterations: Number of iterations in the phase.
    """
    distiller = unwrap(runner.model)
    with distiller.own_names(), student_with_adapters(distiller) as student:
        optim_wrapper = build_optim_wrapper(student, ConfigDict(copy.deepcopy(phase.optim_wrapper)))
    for group in optim_wrapper.param_groups:
        group['params'] = [parameter for parameter in group['params'] if parameter.requires_grad]
    _report_norms(optim_wrapper, distiller)
    runner.optim_wrapper = optim_wrapper
    runner.param_schedulers = None  # scale_lr insists on coming before the schedulers
    with scaled_by(runner, phase.train_dataloader):
        runner.scale_lr(optim_wrapper, runner.auto_scale_lr)
    schedulers = copy.deepcopy(phase.param_scheduler)
    if schedulers is None:
        schedulers = default_param_scheduler(iterations)
    for scheduler in schedulers:
        if not scheduler.get('by_epoch', True):
            scheduler.setdefault('end', iterations)
    runner.param_schedulers = runner.build_param_scheduler(schedulers)


def _report_norms(optim_wrapper, distiller: nn.Module) -> None:
    """Let the distiller report norms of gradients that must be finite and are not.

    Torch's own error, of clip_grad=dict(error_if_nonfinite=True), names neither phase nor checkpoint, and comes before losses
    that are not finite have been looked at.
    """
    if not (getattr(optim_wrapper, 'clip_grad_kwargs', None) or {}).get('error_if_nonfinite'):
        return
    clip = optim_wrapper.clip_func

    def clip_func(parameters, *, error_if_nonfinite: bool = False, **options):
        norm = clip(parameters, **options)
        if error_if_nonfinite:
            distiller.check_norm(optim_wrapper.grad_name, norm)
        return norm

    optim_wrapper.clip_func = clip_func


def check_optimizer(wrapper: dict, where: str, scope: str | None = None) -> None:
    """Refuse an optimizer that is not registered, and keys beside it that nobody reads.

    What MMEngine says of the former names neither the key nor the type. Of the latter it says nothing, or torch does, at the
    first step.

    Args:
        wrapper: The config of an optimizer wrapper.
        where: Its key, for messages.
        scope: Whose optimizers are looked through first.

    Raises:
        ConfigError: With near names.
    """
    kind = (wrapper.get('optimizer') or {}).get('type')
    with OPTIMIZERS.switch_scope_and_registry(scope) as registry:
        if isinstance(kind, str) and registry.get(kind) is None:
            known = {*OPTIMIZERS.module_dict, *registry.module_dict}
            raise ConfigError(f'{where}: there is no optimizer {kind!r}; {candidates(kind, sorted(known))}')
    if wrapper.get('paramwise_cfg') and wrapper.get('constructor') in (None, 'DefaultOptimWrapperConstructor'):
        check_keys(wrapper['paramwise_cfg'], PARAMWISE, f'{where}.paramwise_cfg')
    if isinstance(wrapper.get('clip_grad'), Mapping):
        _check_clipping(wrapper['clip_grad'], f'{where}.clip_grad')


def _check_clipping(cfg: Mapping, where: str) -> None:
    kind = cfg.get('type', 'norm')
    if kind not in CLIPS:
        raise ConfigError(f'{where}.type must be one of {", ".join(CLIPS)}; found {kind!r}')
    _, *arguments = inspect.signature(CLIPS[kind]).parameters.values()  # without the parameters of the network
    check_keys(cfg, ['type', *(argument.name for argument in arguments)], where)
    needed = arguments[0].name
    if not isinstance(cfg.get(needed), (int, float)) or cfg[needed] <= 0:
        raise ConfigError(f'{where}.{needed} must be a number above 0, found {cfg.get(needed)!r}')


@contextmanager
def student_with_adapters(distiller: nn.Module):
    """The student, with what trains beside it in it for a while: optimizer constructors that go by names or depth know the
    student's.
    """
    student = distiller.student
    beside = {name: getattr(distiller, name) for name in (prefix.rstrip('.') for prefix in BESIDE)}
    added = {
        name: module for name, module in beside.items() if module is not None and any(True for _ in module.parameters())
    }
    for name, module in added.items():
        student.add_module(name, module)
    try:
        yield student
    finally:
        for name in added:
            student._modules.pop(name)


def unwrap(model: nn.Module) -> nn.Module:
    """The module inside a DDP wrapper, or the model itself."""
    return model.get_submodule('module') if is_model_wrapper(model) else model


def wrap_anew(runner: Runner, model: nn.Module) -> None:
    """Wrap ``model`` for DDP as the Runner's config says, so that only what needs a gradient now is reduced."""
    wrapper = runner.cfg.get('model_wrapper_cfg')
    runner.model = None  # the old reducer must go before a new one hooks the same parameters
    runner.model = runner.wrap_model(wrapper and wrapper.copy(), model)


def forget_last_phase(runner: Runner) -> None:
    """Drop the best score, the best checkpoint's path and the logged values of the phase that has ended."""
    hub = runner.message_hub
    scores = [key for key in hub.runtime_info if key.startswith(('best_score', 'best_ckpt'))]
    # or the log would go on printing, and averaging in, the last phase's values
    scalars = [key for key in hub.log_scalars if key.startswith(('train/', 'val/'))]
    for key in scores + scalars:
        forget(hub, key)
    for hook in runner.hooks:
        if isinstance(hook, CheckpointHook):
            hook.best_ckpt_path = None
            hook.best_ckpt_path_dict = dict.fromkeys(getattr(hook, 'best_ckpt_path_dict', ()))


def seed_everything(seed: int, step: int) -> None:
    """Set the random states of Python, numpy and torch from the run's seed, the step and the rank.

    Called at each epoch (epoch-based) or iteration (iteration-based), so that augmentation and dropout after a resume are those
    of the uninterrupted run, on every rank, without states in the checkpoint.
    """
    seed_random_states(seed, step, get_rank())


def reseed_samplers(loaders: Iterable[DataLoader], seed: int) -> None:
    """Give the samplers the seed of the checkpoint: on resume MMEngine restores it too late for them."""
    for loader in loaders:
        for sampler in (loader.sampler, getattr(loader.batch_sampler, 'sampler', None)):
            if hasattr(sampler, 'seed'):
                sampler.seed = seed


def build_loaders(runner: Runner, phases: Sequence[Phase]) -> list[DataLoader]:
    """The loader of each phase: the run's own, or one for each different config, so that equal ones share workers and data."""
    diff_rank_seed = runner.cfg.get('randomness', {}).get('diff_rank_seed', False)
    loaders, built = [], {}
    for phase in phases:
        cfg = phase.train_dataloader
        if cfg and repr(cfg) not in built:
            built[repr(cfg)] = runner.build_dataloader(cfg, seed=runner.seed, diff_rank_seed=diff_rank_seed)
        loaders.append(built[repr(cfg)] if cfg else runner.train_loop.dataloader)
    place_samples(loaders, endless=not isinstance(runner.train_loop, EpochBasedTrainLoop))
    return loaders


def is_logged(runner: Runner, batch_idx: int) -> bool:
    """Whether what the model returns in an iteration is logged: a ``LoggerHook`` shows the latest value of all but losses."""
    hooks = [hook for hook in runner.hooks if isinstance(hook, LoggerHook)]
    due = [
        hook.every_n_inner_iters(batch_idx, hook.interval) or hook.end_of_epoch(runner.train_dataloader, batch_idx)
        for hook in hooks
    ]
    return any(due) or not hooks


class PhaseBatches:
    """The iterator of an iteration-based train loop: enters the next phase in time and draws from that phase's loader.

    Phases without a loader of their own share the run's and go on where the phase before stopped.
    """

    def __init__(self, hook, runner):
        self.hook, self.runner = hook, runner
        self.iterators: dict[DataLoader, Iterator] = {}
        self.skipped = dict.fromkeys(hook.schedule.loaders, 0)

    def __iter__(self) -> 'PhaseBatches':
        return self

    def __next__(self):
        self.hook.advance(self.runner)
        loaders, index = self.hook.schedule.loaders, self.hook.index
        for loader in set(self.iterators) - set(loaders[index:]):
            del self.iterators[loader]  # ends workers that no later phase needs
        seed_everything(self.runner.seed, self.runner.iter)
        loader = loaders[index]
        if loader not in self.iterators:
            begin_pass(loader, self.runner.seed, skipped=self.skipped[loader])
            self.iterators[loader] = iter(loader)
        return next(self.iterators[loader])

    def skip_iter(self, steps: int) -> None:
        """Skip what the first ``steps`` iterations of the run have drawn; the train loop calls this on resume."""
        for phase, loader in zip(self.hook.schedule.phases, self.hook.schedule.loaders):
            self.skipped[loader] += min(max(steps - phase.begin, 0), phase.length)


# -- places: what a sample draws in a worker follows from its place in the run, and from nothing that a worker did before


class Place(NamedTuple):
    """An index with the place of its sample, which a worker is given for it.

    Attributes:
        index: Of the sample, as the sampler gave it.
        words: Seed of the run, number of the loader, pass over it, batch of the pass, sample of the batch, rank.
    """

    index: Any
    words: tuple[int, ...]


class PlacedBatches:
    """A loader's batch sampler, which notes for workers at which place in the run each sample is drawn.

    Workers draw ahead, and live for one pass or for all, as their loader says. So neither a count of their own nor the epoch that
    the run is in tells them where they are.

    Args:
        loader: It gets this in place of its batch sampler.
        number: Of the loader among those of the run.
        endless: Go on with the next pass where one ends, as a run that counts iterations wants it.
    """

    def __init__(self, loader: DataLoader, number: int, endless: bool):
        self.batches: Any = loader.batch_sampler
        self.number, self.endless = number, endless
        self.noted = loader.num_workers > 0 and not isinstance(loader.dataset, IterableDataset)
        self.seed, self.epoch, self.skipped = 0, 0, 0

    def begin(self, seed: int, epoch: int, skipped: int = 0) -> None:
        """Set what the next pass is: its number, and how many batches were drawn before, of which no image is loaded."""
        self.seed, self.epoch, self.skipped = seed, epoch, skipped

    def __iter__(self) -> Iterator[list]:
        batches = self._without_end() if self.endless else ((self.epoch, *each) for each in enumerate(self.batches))
        for epoch, number, batch in itertools.islice(batches, self.skipped, None):
            where = self.seed, self.number, epoch, number
            yield [Place(each, (*where, i, get_rank())) for i, each in enumerate(batch)] if self.noted else batch

    def _without_end(self) -> Iterator[tuple[int, int, list]]:
        for epoch in itertools.count(self.epoch):
            if epoch > self.epoch:
                for sampler in (self.batches, getattr(self.batches, 'sampler', None)):
                    if hasattr(sampler, 'set_epoch'):
                        sampler.set_epoch(epoch)
            yield from ((epoch, *each) for each in enumerate(self.batches))

    def __len__(self) -> int:
        return len(self.batches)

    def __getattr__(self, name: str):
        if name == 'batches':  # a copy that is being made has none yet
            raise AttributeError(name)
        return getattr(self.batches, name)


def place_samples(loaders: Iterable[DataLoader], endless: bool) -> None:
    """Give each loader a :class:`PlacedBatches`, and its workers what they need to go by it."""
    for number, loader in enumerate(dict.fromkeys(loaders)):
        placed = PlacedBatches(loader, number, endless)
        set_batch_sampler(loader, placed)
        if placed.noted:
            loader.worker_init_fn = functools.partial(start_worker, init=loader.worker_init_fn)


def begin_pass(loader: DataLoader, seed: int, epoch: int = 0, skipped: int = 0) -> None:
    """Say what the next pass over ``loader`` is; see :meth:`PlacedBatches.begin`."""
    loader.batch_sampler.begin(seed, epoch, skipped)
    if loader.num_workers or loader.batch_sampler.endless:
        # with a generator of its own, starting the loader and its workers draws nothing from the global state
        loader.generator = torch.Generator().manual_seed(seed)


def start_worker(worker_id: int, init: Callable[[int], None] | None = None) -> None:
    """Make the data set of this worker seed the random states from the place of each sample that it is asked for.

    The object changes its class, here in the worker: a wrapper around it would hide it from hooks that set its pipeline.

    Args:
        worker_id: Within its loader.
        init: What the loader has for its workers besides.
    """
    if init is not None:
        init(worker_id)
    dataset = get_worker_info().dataset
    dataset.__class__ = _seeding(type(dataset))


def _seeding(kind: Any) -> type:
    """A class like ``kind`` that goes by places."""

    def __getitem__(self, place: Place):
        seed_random_states(*place.words)
        return kind.__getitem__(self, place.index)

    def __getitems__(self, places: list[Place]) -> list:
        if not hasattr(kind, '__getitems__'):
            return [self[place] for place in places]
        seed_random_states(*places[0].words)
        return kind.__getitems__(self, [place.index for place in places])

    names = dict(__slots__=(), __getitem__=__getitem__, __getitems__=__getitems__)  # slots: of the same layout
    return type(kind.__name__, (kind,), names)
