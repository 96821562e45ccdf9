from mmpretrain.models.backbones import ResNet_CIFAR
from mmpretrain.models.backbones.resnet import BasicBlock

from ..registry import MODELS


@MODELS.register_module()
class CIFARResNet(ResNet_CIFAR):
    """The ResNet of 6n+2 layers for small images (https://arxiv.org/abs/1512.03385, section 4.2), with a width factor.

    A 3x3 stem, then three stages of n basic blocks with 16, 32 and 64 times ``width`` channels at strides 1, 2 and 4. Projection
    shortcuts, as in the distillation field's CIFAR-100 pairs (https://arxiv.org/abs/1910.10699, section 4): R56 and R20 are
    ``depth=56`` and ``depth=20``; R32x4 and R8x4 are ``depth=32`` and ``depth=8`` with ``width=4, stem_channels=32``.

    Args:
        depth: 6n + 2: 8, 14, 20, 26, 32, 38, 44, 56, 110, ...
        width: Factor on the channels of all stages; below 1 is rounded to whole channels.
        stem_channels: Output channels of the stem.
        **kwargs: As in mmpretrain's ``ResNet``: ``in_channels``, ``norm_cfg``, ``frozen_stages``, ``norm_eval``, ...

    Example:
        >>> import torch
        >>> [tuple(out.shape) for out in CIFARResNet(depth=8, width=0.5)(torch.zeros(1, 3, 32, 32))]
        [(1, 32, 8, 8)]
    """

    arch_settings = {6 * n + 2: (BasicBlock, (n, n, n)) for n in range(1, 34)}

    def __init__(self, depth: int, width: float = 1, stem_channels: int = 16, **kwargs):
        defaults = dict(out_indices=(2,), zero_init_residual=False)
        super().__init__(
            depth,
            num_stages=3,
            strides=(1, 2, 2),
            dilations=(1, 1, 1),
            stem_channels=stem_channels,
            base_channels=max(round(16 * width), 1),
            **{**defaults, **kwargs},
        )
