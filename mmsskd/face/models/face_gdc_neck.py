from collections.abc import Sequence

from mmengine.model import BaseModule
from torch import Tensor, nn

from ...registry import MODELS
from .face_embed_neck import as_map, in_full_precision, of_last


class Layers(nn.Module):
    """Layers in a row, one level down in the names: InsightFace's are ``layers.0.layers.1.weight``."""

    def __init__(self, *layers: nn.Module):
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


class GlobalDepthwiseConv(Layers):
    """GDC: a depthwise convolution over the whole map, BN, a linear layer without bias, BN."""

    def __init__(self, in_channels: int, feature_size: int, num_features: int):
        depthwise = nn.Conv2d(in_channels, in_channels, feature_size, groups=in_channels, bias=False)
        super().__init__(
            Layers(depthwise, nn.BatchNorm2d(in_channels)),
            nn.Flatten(),
            nn.Linear(in_channels, num_features, bias=False),
            nn.BatchNorm1d(num_features),
        )
        self.places = (in_channels, feature_size, feature_size)

    def forward(self, x: Tensor) -> Tensor:
        pool, flatten, fc, features = self.layers
        return in_full_precision(flatten(pool(as_map(x, self.places))), fc, features)


@MODELS.register_module()
class FaceGDCNeck(BaseModule):
    """Neck from a feature map to a face embedding: global depthwise convolution, one linear layer, BN.

    The layers after ``conv_sep`` of InsightFace's MobileFaceNet (recognition/arcface_torch/backbones/mobilefacenet.py), under its
    names: ``features.layers.N``; from MobileFaceNet, https://arxiv.org/abs/1804.07573, section 3.2. It has a forty-fifth of the
    parameters of :class:`~mmsskd.face.models.FaceEmbedNeck`.

    Args:
        in_channels: Channels of the map.
        feature_size: Height and width of the map; 7 for 112x112 images at 16 pixels a place.
        num_features: Length of the embedding.
        init_cfg: As in MMEngine. Default: Kaiming, as InsightFace.

    Example:
        >>> import torch
        >>> FaceGDCNeck(in_channels=8, feature_size=4, num_features=16)(torch.zeros(2, 8, 4, 4)).shape
        torch.Size([2, 16])
    """

    def __init__(
        self,
        in_channels: int = 512,
        feature_size: int = 7,
        num_features: int = 512,
        init_cfg: dict | list[dict] | None = None,
    ):
        super().__init__(init_cfg or dict(type='Kaiming', layer=['Conv2d', 'Linear']))
        self.num_features = num_features
        self.features = GlobalDepthwiseConv(in_channels, feature_size, num_features)

    def forward(self, feats: Tensor | Sequence[Tensor]) -> Tensor | tuple[Tensor]:
        """As :meth:`FaceEmbedNeck.forward <mmsskd.face.models.FaceEmbedNeck.forward>`."""
        return of_last(feats, self.features)
