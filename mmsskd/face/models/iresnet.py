from collections.abc import Sequence

from mmengine.model import BaseModule
from torch import Tensor, nn

from ...errors import ConfigError
from ...registry import MODELS
from .face_embed_neck import add_embedding, embed


class IBasicBlock(nn.Module):
    """BN, 3x3 convolution, BN, PReLU, 3x3 convolution with the stride, BN, and a shortcut without activation after the sum.

    The improved residual unit of ArcFace, https://arxiv.org/abs/1801.07698, section 3.2.
    """

    def __init__(self, in_channels: int, channels: int, stride: int):
        super().__init__()
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.conv1 = nn.Conv2d(in_channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.prelu = nn.PReLU(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, stride, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(channels)
        self.downsample = None
        if stride != 1 or in_channels != channels:
            self.downsample = nn.Sequential(
                nn.Conv2d(in_channels, channels, 1, stride, bias=False), nn.BatchNorm2d(channels)
            )

    def forward(self, x: Tensor) -> Tensor:
        out = self.prelu(self.bn2(self.conv1(self.bn1(x))))
        out = self.bn3(self.conv2(out))
        return out + (x if self.downsample is None else self.downsample(x))


@MODELS.register_module()
class IResNet(BaseModule):
    """InsightFace's residual network for aligned faces, IR-18 to IR-100.

    A 3x3 stem at full resolution and four stages of :class:`IBasicBlock`, each at half the resolution of the one before it. For
    112x112 images these are maps of 56, 28, 14 and 7 with 64, 128, 256 and 512 channels at every depth. ArcFace,
    https://arxiv.org/abs/1801.07698, section 3.2. Names and shapes of parameters and buffers are those of InsightFace's
    recognition/arcface_torch/backbones/iresnet.py, so that its released backbones load strictly.

    With ``num_features`` it is the whole network and returns the embedding, as there. Without, it is the backbone of a
    :class:`~mmsskd.face.models.FaceRecognizer`, whose neck holds the embedding.

    Args:
        depth: 18, 34, 50 or 100.
        num_features: Length of the embedding (512 in InsightFace); None: no embedding.
        input_size: Height and width of the images in pixels. Only the embedding depends on it.
        base_channels: Channels of the stem and of the first stage.
        in_channels: Channels of the images.
        dropout: Of the embedding, see :class:`~mmsskd.face.models.FaceEmbedNeck`.
        out_indices: Which of the four stages to return where there is no embedding.
        init_cfg: As in MMEngine. Default: convolutions from N(0, 0.1), as InsightFace.

    Raises:
        ConfigError: Another depth.

    Example:
        >>> import torch
        >>> backbone = IResNet(depth=18, base_channels=4, out_indices=(2, 3))
        >>> [tuple(out.shape) for out in backbone(torch.zeros(1, 3, 32, 32))]
        [(1, 16, 4, 4), (1, 32, 2, 2)]
    """

    arch_settings = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 14, 3), 100: (3, 13, 30, 3)}

    def __init__(
        self,
        depth: int,
        num_features: int | None = None,
        input_size: int = 112,
        base_channels: int = 64,
        in_channels: int = 3,
        dropout: float = 0.0,
        out_indices: Sequence[int] = (3,),
        init_cfg: dict | list[dict] | None = None,
    ):
        super().__init__(init_cfg or dict(type='Normal', layer='Conv2d', std=0.1))
        if depth not in self.arch_settings:
            raise ConfigError(f'IResNet: depth must be one of {list(self.arch_settings)}, found {depth!r}')
        self.out_indices = stage_indices(out_indices, 'IResNet')
        self.num_features = num_features
        self.conv1 = nn.Conv2d(in_channels, base_channels, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(base_channels)
        self.prelu = nn.PReLU(base_channels)
        channels = base_channels
        for k, blocks in enumerate(self.arch_settings[depth]):
            width = base_channels * 2**k
            units = [IBasicBlock(channels if i == 0 else width, width, 2 if i == 0 else 1) for i in range(blocks)]
            self.add_module(f'layer{k + 1}', nn.Sequential(*units))
            channels = width
        if num_features is not None:
            add_embedding(self, channels, -(-input_size // 16), num_features, dropout)

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, ...]:
        """The embedding (N, num_features) of images (N, C, H, W), or without ``num_features`` the maps of ``out_indices``."""
        x = self.prelu(self.bn1(self.conv1(x)))
        outs = []
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = stage(x)
            outs.append(x)
        return tuple(outs[k] for k in self.out_indices) if self.num_features is None else embed(self, x)


def stage_indices(indices: Sequence[int], backbone: str) -> tuple[int, ...]:
    """``out_indices`` of a backbone of four stages, checked.

    Raises:
        ConfigError: Not a sequence of numbers from 0 to 3.
    """
    if not isinstance(indices, (list, tuple)) or not indices or not set(indices) <= {0, 1, 2, 3}:
        raise ConfigError(f'{backbone}: out_indices must be a sequence of stages 0 to 3, found {indices!r}')
    return tuple(indices)
