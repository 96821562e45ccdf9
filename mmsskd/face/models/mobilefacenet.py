from collections.abc import Sequence

from mmengine.model import BaseModule
from torch import Tensor, nn

from ...errors import ConfigError
from ...registry import MODELS
from .face_gdc_neck import GlobalDepthwiseConv, Layers
from .iresnet import stage_indices


class DepthWise(Layers):
    """Pointwise up to ``groups`` channels, depthwise 3x3, pointwise down without activation; stride 1 has a shortcut."""

    def __init__(self, in_channels: int, channels: int, groups: int, stride: int):
        super().__init__(
            _conv(in_channels, groups, 1),
            _conv(groups, groups, 3, stride, groups),
            Layers(nn.Conv2d(groups, channels, 1, bias=False), nn.BatchNorm2d(channels)),
        )
        self.shortcut = stride == 1

    def forward(self, x: Tensor) -> Tensor:
        out = self.layers(x)
        return x + out if self.shortcut else out


@MODELS.register_module()
class MobileFaceNet(BaseModule):
    """MobileFaceNet (https://arxiv.org/abs/1804.07573, section 3.3) as InsightFace has it.

    Nine layers. ``layers.0`` and ``layers.1`` end at half the resolution, ``layers.3``, ``layers.5`` and ``layers.7`` at 4, 8
    and 16 pixels a place. ``conv_sep`` widens the last map to 512 channels. Names and shapes of parameters and buffers are
    those of recognition/arcface_torch/backbones/mobilefacenet.py, so that its released backbones load strictly. As there,
    ``layers.1`` is a grouped convolution of 64 groups, which at ``scale=2`` is not depthwise, and the widths inside the
    :class:`DepthWise` units do not grow with ``scale``.

    With ``num_features`` it is the whole network and returns the embedding, as there. Without, it is the backbone of a
    :class:`~mmsskd.face.models.FaceRecognizer`, whose neck (:class:`~mmsskd.face.models.FaceGDCNeck`) holds the embedding.

    Args:
        scale: Factor on the 64 and 128 channels of the stages. InsightFace's ``mbf`` is 2, its ``mbf_large`` 4 with
            ``blocks=(2, 8, 12, 4)``.
        blocks: Number of units at each resolution. 1 at the first place stands for the grouped convolution.
        num_features: Length of the embedding (512 in InsightFace); None: no embedding.
        input_size: Height and width of the images in pixels. Only the embedding depends on it.
        in_channels: Channels of the images.
        out_indices: Which of the four resolutions to return where there is no embedding; 3 is the output of ``conv_sep``.
        init_cfg: As in MMEngine. Default: Kaiming, as InsightFace.

    Raises:
        ConfigError: ``blocks`` are not four numbers of at least 1.

    Example:
        >>> import torch
        >>> MobileFaceNet(scale=1, num_features=16, input_size=32).eval()(torch.zeros(1, 3, 32, 32)).shape
        torch.Size([1, 16])
    """

    def __init__(
        self,
        scale: int = 2,
        blocks: Sequence[int] = (1, 4, 6, 2),
        num_features: int | None = None,
        input_size: int = 112,
        in_channels: int = 3,
        out_indices: Sequence[int] = (3,),
        init_cfg: dict | list[dict] | None = None,
    ):
        super().__init__(init_cfg or dict(type='Kaiming', layer=['Conv2d', 'Linear']))
        if len(blocks) != 4 or min(blocks) < 1:
            raise ConfigError(f'MobileFaceNet: blocks must be four numbers of at least 1, found {blocks!r}')
        self.out_indices = stage_indices(out_indices, 'MobileFaceNet')
        narrow, wide = 64 * scale, 128 * scale
        self.layers = nn.ModuleList(
            [
                _conv(in_channels, narrow, 3, 2),
                _conv(narrow, narrow, 3, 1, 64) if blocks[0] == 1 else _units(narrow, 128, blocks[0]),
                DepthWise(narrow, narrow, 128, 2),
                _units(narrow, 128, blocks[1]),
                DepthWise(narrow, wide, 256, 2),
                _units(wide, 256, blocks[2]),
                DepthWise(wide, wide, 512, 2),
                _units(wide, 256, blocks[3]),
            ]
        )
        self.conv_sep = _conv(wide, 512, 1)
        self.features = None
        if num_features is not None:
            self.features = GlobalDepthwiseConv(512, -(-input_size // 16), num_features)

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, ...]:
        """The embedding (N, num_features) of images (N, C, H, W), or without ``num_features`` the maps of ``out_indices``."""
        outs = []
        for k, layer in enumerate(self.layers):
            x = layer(x)
            if k % 2:
                outs.append(x)
        outs[-1] = self.conv_sep(x)
        return tuple(outs[k] for k in self.out_indices) if self.features is None else self.features(outs[-1])


def _conv(in_channels: int, channels: int, kernel: int, stride: int = 1, groups: int = 1) -> Layers:
    """Convolution that keeps the size (but for the stride), BN and PReLU."""
    return Layers(
        nn.Conv2d(in_channels, channels, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(channels),
        nn.PReLU(channels),
    )


def _units(channels: int, groups: int, count: int) -> Layers:
    return Layers(*(DepthWise(channels, channels, groups, 1) for _ in range(count)))
