"""IResNet against arcface_torch's names and arithmetic written out by hand."""

import pytest
import torch
from arcface_helpers import (
    iresnet_forward,
    iresnet_table,
)
from face_models import WIDTH, ir_recognizer, packed, shapes, small_state
from mmengine.optim import OptimWrapper

from mmsskd.distill.build import load_strictly
from mmsskd.distill.network.stages import find_stages
from mmsskd.errors import ConfigError
from mmsskd.face.models import FaceEmbedNeck, FaceRecognizer, IResNet, MobileFaceNet


@pytest.mark.parametrize(('depth', 'millions'), [(18, 24.03), (34, 34.14), (50, 43.59), (100, 65.16)])
def test_iresnet_has_the_names_and_shapes_of_arcface_torch(depth, millions):
    with torch.device('meta'):
        whole, backbone, neck = IResNet(depth, num_features=512), IResNet(depth), FaceEmbedNeck()
    assert shapes(whole.state_dict()) == iresnet_table(depth)
    assert shapes({**backbone.state_dict(), **neck.state_dict()}) == iresnet_table(depth)
    assert round(sum(parameter.numel() for parameter in whole.parameters()) / 1e6, 2) == millions


def test_iresnet_computes_what_arcface_torch_computes():
    state, images = small_state(size=112), torch.randn(2, 3, 112, 112)
    maps, embedding = iresnet_forward(state, 18, images)
    whole = IResNet(18, num_features=32, base_channels=WIDTH).eval()
    whole.load_state_dict(state)
    torch.testing.assert_close(whole(images), embedding, rtol=1e-4, atol=1e-4)
    backbone = IResNet(18, base_channels=WIDTH, out_indices=(0, 1, 2, 3)).eval()
    backbone.load_state_dict({name: value for name, value in state.items() if name in backbone.state_dict()})
    for found, expected, side in zip(backbone(images), maps, (56, 28, 14, 7), strict=True):
        assert found.shape[-1] == side
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_other_sizes_of_images_have_embeddings_too():
    assert IResNet(18, num_features=16, input_size=100, base_channels=4).eval()(torch.randn(2, 3, 100, 100)).shape == (
        2,
        16,
    )
    assert MobileFaceNet(1, num_features=16, input_size=50).eval()(torch.randn(2, 3, 50, 50)).shape == (2, 16)


def test_weights_start_as_in_arcface_torch():
    torch.manual_seed(0)
    model = ir_recognizer()
    model.init_weights()
    assert abs(model.backbone.layer4[0].conv2.weight.std() - 0.1) < 0.005
    bound = model.neck.fc.weight.shape[1] ** -0.5
    assert 0.9 * bound < model.neck.fc.weight.abs().max() <= bound  # torch's own for linear layers
    mobile = MobileFaceNet(1)
    mobile.init_weights()
    weight = mobile.conv_sep.layers[0].weight
    assert abs(weight.std() - (2 / 512) ** 0.5) < 0.003  # fan-out


def test_the_scale_of_the_last_norm_stays_one():
    model = ir_recognizer(people=4)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, weight_decay=0.1)
    model.train_step(packed(), OptimWrapper(optimizer))
    assert torch.equal(model.neck.features.weight, torch.ones(32))
    assert not torch.equal(model.neck.features.bias, torch.zeros(32))


@pytest.mark.parametrize('wrong', [dict(depth=20), dict(depth=18, out_indices=(4,)), dict(depth=18, out_indices=3)])
def test_iresnet_names_a_wrong_field(wrong):
    with pytest.raises(ConfigError, match=r'IResNet: (depth must be one of \[18, 34, 50, 100\]|out_indices must be)'):
        IResNet(**wrong)


def test_iresnet_is_cut_into_its_four_layers_and_the_embedding():
    model = FaceRecognizer(
        dict(type='mmsskd.IResNet', depth=18, base_channels=WIDTH),
        dict(type='mmsskd.FaceEmbedNeck', in_channels=8 * WIDTH, num_features=16),
    )
    stages = find_stages(model, None, torch.randn(1, 3, 112, 112))
    assert [stage.name for stage in stages] == ['layer1', 'layer2', 'layer3', 'layer4', 'neck']
    assert [stage.shapes for stage in stages[:2]] == [((8, 56, 56),), ((16, 28, 28),)]
    assert [stage.shapes for stage in stages[2:]] == [((32, 14, 14),), ((64, 7, 7),), ((16,),)]
    assert 'backbone.conv1.weight' in stages[0].parameters and 'neck.fc.weight' in stages[-1].parameters


@pytest.mark.parametrize('prefix', ['', 'module.'])
def test_a_backbone_of_insightface_loads_strictly(prefix, tmp_path):
    path = tmp_path / 'backbone.pth'
    torch.save({prefix + name: value for name, value in small_state().items()}, path)
    model, images = ir_recognizer().eval(), torch.randn(2, 3, 32, 32)
    load_strictly(model, str(path), 'checkpoint')
    assert set(model.adopt_state_dict(torch.load(path, weights_only=True))) == set(model.state_dict())
    torch.testing.assert_close(model(images), iresnet_forward(small_state(), 18, images)[1], rtol=1e-4, atol=1e-4)
    with pytest.raises(ConfigError, match=r'missing \(1\): head.weight'):
        load_strictly(ir_recognizer(people=4), str(path), 'checkpoint')


def test_a_backbone_of_another_depth_is_refused_with_names(tmp_path):
    path = tmp_path / 'backbone.pth'
    torch.save(small_state(), path)
    with pytest.raises(ConfigError, match=r'missing \(\d+\): backbone.layer1.2.bn1.weight'):
        load_strictly(ir_recognizer(depth=34), str(path), 'checkpoint')
