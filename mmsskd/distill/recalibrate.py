"""BN statistics computed anew at the end of a phase, with the weights as they are then."""

import copy

import torch
from mmengine.dist import get_rank, get_world_size
from mmengine.runner import Runner
from mmengine.utils.dl_utils.parrots_wrapper import _BatchNorm
from torch import nn
from torch.utils.data import DataLoader

from .batches import batches_beside
from .distiller import StagewiseDistiller
from .losses import student_outputs


@torch.no_grad()
def recalibrate(runner: Runner, distiller: StagewiseDistiller, loader: DataLoader, batches: int, seed: int) -> None:
    """Set the statistics of each BN layer that trains to their mean over ``batches`` training batches.

    The running average lags behind the weights, and with ``prefix='teacher'`` it is of another input than the student will have
    (https://arxiv.org/abs/1803.05407, section 3.3). Only the student runs, on its own features. Each rank has its own images;
    the hook averages over the ranks. What is frozen does not move.

    Args:
        runner: Says how the model runs (mixed precision).
        distiller: In the phase that ends.
        loader: The phase's; its images are drawn anew, at random, without touching its order.
        batches: On each rank; a smaller data set gives fewer.
        seed: Of the choice of images.
    """
    distiller.train()
    layers = statistics(distiller)
    momenta = {layer: layer.momentum for layer in layers}
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None  # torch's word for the mean over all batches
    size = loader.batch_size or loader.batch_sampler.batch_size
    count, ranks = len(loader.dataset), get_world_size()
    wanted = max(min(batches, count // (size * ranks)), 1) * size * ranks
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed)).repeat(-(-wanted // count))
    preprocessor = copy.deepcopy(distiller.data_preprocessor)  # its batch augments may remember sizes
    runner.logger.info(f'BN statistics of {len(layers)} layers anew, over {wanted // (size * ranks)} batches')
    try:
        for data in batches_beside(loader, order[:wanted][get_rank() :: ranks].tolist(), size):
            data = preprocessor(data, True)
            with runner.optim_wrapper.optim_context(runner.model):
                _, outputs = student_outputs(distiller, data['inputs'], data.get('data_samples'))
                for name in distiller.phase.mimic:
                    distiller.adapt(name, outputs)
    finally:
        for layer, momentum in momenta.items():
            layer.momentum = momentum


def statistics(distiller: StagewiseDistiller) -> list[nn.Module]:
    """The layers whose running statistics the current phase moves."""
    return [
        module
        for module in distiller.training_modules().values()
        if isinstance(module, _BatchNorm) and module.training and module.track_running_stats
    ]
