"""MobileFaceNet against arcface_torch's names and arithmetic written out by hand."""

import pytest
import torch
from arcface_helpers import (
    mobilefacenet_forward,
    mobilefacenet_table,
    random_state,
)
from face_models import shapes

from mmsskd.distill.build import load_strictly
from mmsskd.distill.network.pairing import Pairing
from mmsskd.errors import ConfigError
from mmsskd.face.models import FaceGDCNeck, FaceRecognizer, MobileFaceNet


@pytest.mark.parametrize(
    ('scale', 'blocks', 'millions'), [(2, (1, 4, 6, 2), 2.06), (1, (1, 4, 6, 2), 1.20), (4, (2, 8, 12, 4), None)]
)
def test_mobilefacenet_has_the_names_and_shapes_of_arcface_torch(scale, blocks, millions):
    with torch.device('meta'):
        whole, backbone, neck = (
            MobileFaceNet(scale, blocks, num_features=512),
            MobileFaceNet(scale, blocks),
            FaceGDCNeck(),
        )
    assert shapes(whole.state_dict()) == mobilefacenet_table(scale, blocks)
    assert shapes({**backbone.state_dict(), **neck.state_dict()}) == mobilefacenet_table(scale, blocks)
    if millions:
        assert round(sum(parameter.numel() for parameter in whole.parameters()) / 1e6, 2) == millions


def test_mobilefacenet_computes_what_arcface_torch_computes():
    blocks = (1, 1, 2, 1)
    state, images = random_state(mobilefacenet_table(2, blocks, 32)), torch.randn(2, 3, 112, 112)
    maps, embedding = mobilefacenet_forward(state, blocks, images)
    whole = MobileFaceNet(2, blocks, num_features=32).eval()
    whole.load_state_dict(state)
    torch.testing.assert_close(whole(images), embedding, rtol=1e-4, atol=1e-4)
    backbone = MobileFaceNet(2, blocks, out_indices=(0, 1, 2, 3)).eval()
    backbone.load_state_dict({name: value for name, value in state.items() if not name.startswith('features.')})
    for found, expected in zip(backbone(images), maps, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_mobilefacenet_names_wrong_blocks():
    with pytest.raises(ConfigError, match=r'blocks must be four numbers of at least 1, found \(1, 4, 6\)'):
        MobileFaceNet(blocks=(1, 4, 6))


@pytest.mark.slow
@pytest.mark.parametrize(('scale', 'adapted'), [(2, ['layers.1']), (1, ['layers.3', 'layers.5'])])
def test_mobilefacenet_needs_adapters_only_where_it_is_of_another_width(scale, adapted):
    teacher = FaceRecognizer(dict(type='mmsskd.IResNet', depth=50), dict(type='mmsskd.FaceEmbedNeck'))
    student = FaceRecognizer(dict(type='mmsskd.MobileFaceNet', scale=scale), dict(type='mmsskd.FaceGDCNeck'))
    own, theirs, adapters = Pairing(input_shape=(3, 112, 112)).pair(student, teacher)
    widths = {1: (64, 64, 128), 2: (128, 128, 256)}[scale]
    assert [stage.shapes[0] for stage in own.values()] == [
        (widths[0], 56, 56), (widths[1], 28, 28), (widths[2], 14, 14), (512, 7, 7), (512,),
    ]  # fmt: skip
    assert [stage.name for stage in theirs.values()] == ['layer1', 'layer2', 'layer3', 'layer4', 'neck']
    assert list(adapters) == adapted


def test_a_mobilefacenet_of_insightface_loads_strictly(tmp_path):
    path = tmp_path / 'backbone.pth'
    torch.save(random_state(mobilefacenet_table(1)), path)
    model = FaceRecognizer(dict(type='mmsskd.MobileFaceNet', scale=1), dict(type='mmsskd.FaceGDCNeck'))
    load_strictly(model, str(path), 'checkpoint')
    assert torch.equal(
        model.neck.features.layers[2].weight, random_state(mobilefacenet_table(1))['features.layers.2.weight']
    )
