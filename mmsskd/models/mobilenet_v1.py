from collections.abc import Sequence

from mmpretrain.models.backbones.base_backbone import BaseBackbone
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..errors import ConfigError
from ..registry import MODELS

# output channels and stride of the depthwise-separable blocks, table 1 of the paper
BLOCKS = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1))
STAGE_ENDS = (3, 5, 11, 13)  # in `model`; the stem, at half the resolution, ends in 1


@MODELS.register_module()
class MobileNetV1(BaseBackbone):
    """MobileNet of width 1 (https://arxiv.org/abs/1704.04861, table 1), which mmpretrain lacks.

    The student of the distillation field's ImageNet pair with ResNet-50 (https://arxiv.org/abs/1904.01866). ``model.0`` is a 3x3
    convolution of stride 2, ``model.1`` to ``model.13`` are depthwise-separable blocks. Four stages end in ``model.3``,
    ``model.5``, ``model.11`` and ``model.13``, at strides 4, 8, 16, 32 with 128, 256, 512, 1024 channels, where the stages of a
    ResNet-50 end.

    Parameters have the names of the field's checkpoints (``model.0.0.weight``, ..., next to ``fc.weight`` and ``fc.bias``, also
    after ``module.``), so that a classifier loads one with the same ``init_cfg`` in the backbone and in mmpretrain's
    ``LinearClsHead``::

        init_cfg = dict(type='Pretrained', checkpoint='mobilenet.pth')
        model = dict(backbone=dict(init_cfg=init_cfg), head=dict(init_cfg=init_cfg))

    Args:
        out_indices: Which of the four stages to return, 0 to 3.
        frozen_stages: How many stages are frozen, the stem before them included: 0 freezes the stem alone, -1 nothing.
        norm_eval: Keep all BN statistics as they are.
        init_cfg: As in MMEngine. Default: Kaiming, as mmpretrain's MobileNetV2.

    Raises:
        ConfigError: There is no such stage.

    Example:
        >>> import torch
        >>> [tuple(out.shape) for out in MobileNetV1(out_indices=(0, 3))(torch.zeros(1, 3, 64, 64))]
        [(1, 128, 16, 16), (1, 1024, 2, 2)]
    """

    def __init__(
        self,
        out_indices: Sequence[int] = (3,),
        frozen_stages: int = -1,
        norm_eval: bool = False,
        init_cfg: dict | list[dict] | None = None,
    ):
        kaiming = [dict(type='Kaiming', layer=['Conv2d']), dict(type='Constant', val=1, layer=['_BatchNorm'])]
        super().__init__(init_cfg or kaiming)
        stages = range(len(STAGE_ENDS))
        if not isinstance(out_indices, (list, tuple)) or not out_indices or not set(out_indices) <= set(stages):
            raise ConfigError(f'MobileNetV1: out_indices must be a sequence of stages 0 to 3, found {out_indices!r}')
        if frozen_stages not in range(-1, len(STAGE_ENDS) + 1):
            raise ConfigError(
                f'MobileNetV1: frozen_stages must be a whole number from -1 to 4, found {frozen_stages!r}'
            )
        self.out_indices = tuple(out_indices)
        self.frozen_stages = frozen_stages
        self.norm_eval = norm_eval
        self.model = nn.Sequential(nn.Sequential(*_layer(3, 32, 3, 2)))
        channels = 32
        for out_channels, stride in BLOCKS:
            depthwise = _layer(channels, channels, 3, stride, groups=channels)
            self.model.append(nn.Sequential(*depthwise, *_layer(channels, out_channels, 1)))
            channels = out_channels

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """The maps (N, C, H, W) of ``out_indices``, of images (N, 3, H, W)."""
        ends = {STAGE_ENDS[i] for i in self.out_indices}
        outs = []
        for i, block in enumerate(self.model):
            x = block(x)
            if i in ends:
                outs.append(x)
        return tuple(outs)

    def train(self, mode: bool = True) -> 'MobileNetV1':
        """Set the mode; frozen stages stay in eval mode and without gradients, and with ``norm_eval`` all of BN in eval."""
        super().train(mode)
        frozen = (0, *(end + 1 for end in (1, *STAGE_ENDS)))[self.frozen_stages + 1]
        self.model[:frozen].eval().requires_grad_(False)
        if self.norm_eval:
            for module in self.modules():
                if isinstance(module, _BatchNorm):
                    module.eval()
        return self


def _layer(in_channels: int, out_channels: int, kernel: int, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    """Convolution, BN and ReLU."""
    convolution = nn.Conv2d(in_channels, out_channels, kernel, stride, kernel // 2, groups=groups, bias=False)
    return [convolution, nn.BatchNorm2d(out_channels), nn.ReLU(inplace=True)]
