"""What the Runner holds for a phase, made anew at each border: wrapper, optimiser, schedulers, bookkeeping."""

import copy
from contextlib import contextmanager

from mmengine.config import ConfigDict
from mmengine.hooks import CheckpointHook
from mmengine.model import is_model_wrapper
from mmengine.optim import build_optim_wrapper
from mmengine.registry import OPTIMIZERS
from mmengine.runner import Runner
from torch import nn

from ..errors import ConfigError, candidates
from .phase import Phase
from .phase_recipe import default_param_scheduler


def build_optimisation(runner: Runner, phase: Phase, iterations: int) -> None:
    """Give ``runner`` the optimiser wrapper and the schedulers of ``phase``.

    Args:
        runner: Its model is already in the phase and its train loop already has the phase's loader.
        phase: Says the recipe.
        iterations: Number of iterations in the phase.
    """
    with student_with_adapters(unwrap(runner.model)) as student:
        optim_wrapper = build_optim_wrapper(student, ConfigDict(copy.deepcopy(phase.optim_wrapper)))
    for group in optim_wrapper.param_groups:
        group['params'] = [parameter for parameter in group['params'] if parameter.requires_grad]
    runner.optim_wrapper = optim_wrapper
    runner.param_schedulers = None  # scale_lr insists on coming before the schedulers
    run_loader = runner._train_dataloader
    runner._train_dataloader = phase.train_dataloader or run_loader  # whose batch size the learning rate is scaled by
    runner.scale_lr(optim_wrapper, runner.auto_scale_lr)
    runner._train_dataloader = run_loader
    schedulers = copy.deepcopy(phase.param_scheduler)
    if schedulers is None:
        schedulers = default_param_scheduler(iterations)
    for scheduler in schedulers:
        if not scheduler.get('by_epoch', True):
            scheduler.setdefault('end', iterations)
    runner.param_schedulers = runner.build_param_scheduler(schedulers)


def check_optimizer(wrapper: dict, where: str, scope: str | None = None) -> None:
    """Refuse an optimiser that is not registered; what MMEngine says of it names neither the key nor the type."""
    kind = (wrapper.get('optimizer') or {}).get('type')
    with OPTIMIZERS.switch_scope_and_registry(scope) as registry:
        if isinstance(kind, str) and registry.get(kind) is None:
            known = {*OPTIMIZERS.module_dict, *registry.module_dict}
            raise ConfigError(f'{where}: there is no optimizer {kind!r}; {candidates(kind, sorted(known))}')


@contextmanager
def student_with_adapters(distiller: nn.Module):
    """The student, with the adapters in it for a while: optimiser constructors that go by names or depth know the student's."""
    student = distiller.student
    if distiller.adapters:
        student.add_module('adapters', distiller.adapters)
    try:
        yield student
    finally:
        student._modules.pop('adapters', None)


def unwrap(model: nn.Module) -> nn.Module:
    """The module inside a DDP wrapper, or the model itself."""
    return model.module if is_model_wrapper(model) else model


def wrap_anew(runner: Runner, model: nn.Module) -> None:
    """Wrap ``model`` for DDP as the Runner's config says, so that only what needs a gradient now is reduced."""
    wrapper = runner.cfg.get('model_wrapper_cfg')
    runner.model = None  # the old reducer must go before a new one hooks the same parameters
    runner.model = runner.wrap_model(wrapper and wrapper.copy(), model)


def forget_last_phase(runner: Runner) -> None:
    """Drop the best score, the best checkpoint's path and the logged values of the phase that has ended."""
    hub = runner.message_hub
    for key in [key for key in hub.runtime_info if key.startswith(('best_score', 'best_ckpt'))]:
        hub.pop_info(key)
    for key in [key for key in hub.log_scalars if key.startswith(('train/', 'val/'))]:
        hub.log_scalars.pop(key)  # or the log would go on printing, and averaging in, the last phase's values
    for hook in runner.hooks:
        if isinstance(hook, CheckpointHook):
            hook.best_ckpt_path = None
            hook.best_ckpt_path_dict = dict.fromkeys(getattr(hook, 'best_ckpt_path_dict', ()))
