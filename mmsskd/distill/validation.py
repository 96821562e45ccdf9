"""What is measured on the validation set beside the task metric of the student: the features, and the teacher once."""

import torch
from mmengine.dist import all_reduce_params
from mmengine.runner import Runner

from .distiller import StagewiseDistiller
from .mimic_loss import AgreementMeter
from .phases import Phase


@torch.no_grad()
def validate_features(runner: Runner, distiller: StagewiseDistiller, stages: tuple[str, ...]) -> dict[str, float]:
    """Relative error and cosine of ``stages`` over the whole validation set and all ranks.

    Returns:
        ``{'val/relative_error_<stage>': ..., 'val/cosine_<stage>': ...}``.
    """
    distiller.eval()
    meters = {name: AgreementMeter() for name in stages}
    for data in runner.val_loop.dataloader:
        inputs = distiller.data_preprocessor(data, False)['inputs']
        for name, features in distiller.compare(inputs, stages).items():
            meters[name].update(*features)
    distiller.train()
    values = {}
    for name, meter in meters.items():
        error, cosine = meter.compute(over_ranks=True)
        values |= {f'val/relative_error_{name}': error.item(), f'val/cosine_{name}': cosine.item()}
    return values


@torch.no_grad()
def evaluate_teacher(runner: Runner, distiller: StagewiseDistiller) -> dict[str, float]:
    """The teacher's task metrics on the validation set, by the run's own evaluator, without any hook seeing it."""
    loop = runner.val_loop
    runner.model.eval()
    device = next(distiller.parameters()).device.type
    with distiller.predicting_with_teacher():
        for data in loop.dataloader:
            with torch.autocast(device, enabled=loop.fp16):
                outputs = runner.model.val_step(data)
            loop.evaluator.process(data_samples=outputs, data_batch=data)
    metrics = loop.evaluator.evaluate(len(loop.dataloader.dataset))
    return {key: float(value) for key, value in metrics.items() if isinstance(value, (int, float))}


def average_buffers(distiller: StagewiseDistiller, phase: Phase) -> None:
    """Make BN statistics equal on all ranks: those of what trains are averaged, frozen ones are not touched, to the bit."""
    paths = {path for part in phase.train for path in distiller.modules_of(part)}
    modules = [distiller.student.get_submodule(path) for path in sorted(paths)]
    buffers = [buffer for module in modules for buffer in module.buffers(recurse=False) if buffer.is_floating_point()]
    if buffers:
        all_reduce_params(buffers, op='mean')
