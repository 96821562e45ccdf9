"""FaceEmbedNeck and FaceGDCNeck: from a map to an embedding."""

import pytest
import torch

from mmsskd.errors import ConfigError
from mmsskd.face.models import FaceEmbedNeck, FaceGDCNeck, FaceRecognizer


@pytest.mark.parametrize('neck', [FaceEmbedNeck(8, 2, 16), FaceGDCNeck(8, 2, 16)])
def test_necks_take_a_map_or_a_tuple_and_refuse_another_size(neck):
    neck.eval()
    first, last = torch.randn(3, 4, 4, 4), torch.randn(3, 8, 2, 2)
    (found,) = neck((first, last))
    assert found.shape == (3, 16) and torch.equal(found, neck(last))
    with pytest.raises(
        ConfigError, match=r'made for a map of 8x2x2, the backbone ends in 8x4x4; set neck.in_channels and'
    ):
        neck((torch.randn(3, 8, 4, 4),))


@pytest.mark.parametrize('kind', [FaceEmbedNeck, FaceGDCNeck])
def test_necks_take_vectors(kind):
    assert kind(8, 1, 16).eval()((torch.randn(3, 8),))[0].shape == (3, 16)


@pytest.mark.parametrize('kind', ['FaceEmbedNeck', 'FaceGDCNeck'])
@pytest.mark.parametrize(
    ('backbone', 'channels', 'size'),
    [
        (dict(type='mmpretrain.ResNet', depth=18, stem_channels=8, base_channels=4), 32, 1),
        (dict(type='mmsskd.CIFARResNet', depth=8), 64, 8),
    ],
)
def test_necks_work_after_other_backbones(kind, backbone, channels, size):
    neck = dict(type=f'mmsskd.{kind}', in_channels=channels, feature_size=size, num_features=16)
    assert FaceRecognizer(backbone, neck).eval()(torch.randn(2, 3, 32, 32)).shape == (2, 16)


@pytest.mark.parametrize('kind', [FaceEmbedNeck, FaceGDCNeck])
def test_the_embedding_keeps_full_precision_within_autocast(kind):
    neck = kind(8, 2, 16).eval()
    with torch.autocast('cpu', dtype=torch.bfloat16):
        assert neck(torch.randn(3, 8, 2, 2).bfloat16()).dtype == torch.float32
    half = neck.to(torch.bfloat16)
    assert half(torch.randn(3, 8, 2, 2).bfloat16()).dtype == torch.bfloat16
