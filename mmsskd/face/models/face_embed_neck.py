from collections.abc import Sequence
from typing import Any

import torch
from mmengine.model import BaseModule
from torch import Tensor, nn

from ...errors import ConfigError
from ...registry import MODELS


@MODELS.register_module()
class FaceEmbedNeck(BaseModule):
    """Neck from a feature map to a face embedding: BN, dropout, one fully connected layer over all places, BN.

    The layers after ``layer4`` of InsightFace's iresnet (recognition/arcface_torch/backbones/iresnet.py), under its names:
    ``bn2``, ``dropout``, ``fc``, ``features``; option E of ArcFace, https://arxiv.org/abs/1801.07698, section 3.2.
    ``features`` has no scale of its own: ``features.weight`` stays 1 and does not train.

    Behind any mmpretrain backbone: set ``in_channels`` and ``feature_size`` to its last map; a backbone that ends in a vector
    (N, C) has ``feature_size=1``.

    Args:
        in_channels: Channels of the map.
        feature_size: Height and width of the map; 7 for 112x112 images at 16 pixels a place.
        num_features: Length of the embedding.
        dropout: Probability with which a place of a channel is dropped in training.
        init_cfg: As in MMEngine.

    Example:
        >>> FaceEmbedNeck(in_channels=8, feature_size=4, num_features=16)(torch.zeros(2, 8, 4, 4)).shape
        torch.Size([2, 16])
    """

    constant_parameters = ('features.weight',)  # frozen by design, not by somebody's config

    def __init__(
        self,
        in_channels: int = 512,
        feature_size: int = 7,
        num_features: int = 512,
        dropout: float = 0.0,
        init_cfg: dict | list[dict] | None = None,
    ):
        super().__init__(init_cfg)
        self.num_features = num_features
        add_embedding(self, in_channels, feature_size, num_features, dropout)

    def forward(self, feats: Tensor | Sequence[Tensor]) -> Tensor | tuple[Tensor]:
        """The embedding (N, num_features) of a map (N, C, H, W); of a tuple of maps, that of the last one, in a tuple.

        Raises:
            ConfigError: The map has not the channels or the size that the neck is made for.
        """
        return of_last(feats, lambda feat: embed(self, feat))


def add_embedding(module: nn.Module, in_channels: int, feature_size: int, num_features: int, dropout: float) -> None:
    """Give ``module`` the layers ``bn2``, ``dropout``, ``fc`` and ``features``."""
    module.bn2 = nn.BatchNorm2d(in_channels)
    module.dropout = nn.Dropout(dropout)
    module.fc = nn.Linear(in_channels * feature_size**2, num_features)
    module.features = nn.BatchNorm1d(num_features)
    module.features.weight.requires_grad = False
    setattr(module, 'places', (in_channels, feature_size, feature_size))  # noqa: B010  for mypy


def embed(module: nn.Module, feat: Tensor) -> Tensor:
    """The embedding (N, num_features) of a map, by the layers that :func:`add_embedding` gave to ``module``."""
    places: Any = module.places
    feat = module.bn2(as_map(feat, places))
    return in_full_precision(
        module.dropout(feat.flatten(1)), module.get_submodule('fc'), module.get_submodule('features')
    )


def in_full_precision(feat: Tensor, *layers: nn.Module) -> Tensor:
    """Run ``layers`` in their own precision also within autocast: two faces differ by small angles between embeddings."""
    with torch.autocast(feat.device.type, enabled=False):
        feat = feat.to(next(layers[0].parameters()).dtype)
        for layer in layers:
            feat = layer(feat)
    return feat


def of_last(feats: Tensor | Sequence[Tensor], layer) -> Tensor | tuple[Tensor]:
    """Apply ``layer`` to a tensor, or to the last of several, then in a tuple as heads expect it of necks."""
    return layer(feats) if isinstance(feats, Tensor) else (layer(feats[-1]),)


def as_map(feat: Tensor, places: tuple[int, int, int]) -> Tensor:
    """``feat`` as a map; a vector (N, C) has one place.

    Raises:
        ConfigError: It is not of the shape ``places``: (channels, height, width).
    """
    if feat.ndim == 2:
        feat = feat[:, :, None, None]
    if tuple(feat.shape[1:]) != places:
        found = 'x'.join(map(str, feat.shape[1:]))
        raise ConfigError(
            f'model.neck is made for a map of {"x".join(map(str, places))}, the backbone ends in {found}; set neck.in_channels '
            'and neck.feature_size to that, or change the size of the images'
        )
    return feat
