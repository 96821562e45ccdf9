"""A forward ends at its taps, and one that is watched shows what depends on what."""

from collections import namedtuple

import pytest
import torch
from helpers import classifier
from mmengine.config import ConfigDict
from torch import nn
from torch.nn import functional as F

from mmsskd.distill.build import build_model
from mmsskd.distill.network.forward import (
    as_found,
    capture,
    changed_in_place_by,
    feature_tensors,
    features_at,
    image_resizers,
    original_tensors,
    parameters_behind,
    watch,
    with_tensors,
)
from mmsskd.errors import ConfigError


class Net(nn.Module):
    """Two convolutions and a head that runs once for each of two levels; counts what ran."""

    def __init__(self, inplace=False, resize=False):
        super().__init__()
        self.backbone = nn.Sequential(
            nn.Conv2d(3, 4, 3, 2, 1), nn.BatchNorm2d(4), nn.ReLU(inplace), nn.Conv2d(4, 5, 3, 2, 1)
        )
        self.head = nn.ModuleDict(dict(score=nn.Conv2d(5, 2, 1)))
        self.head.forward = lambda levels: [self.head['score'](level) for level in levels]
        self.picky = nn.Bilinear(2, 2, 1)
        self.resize = resize
        self.ran = []
        for name, module in self.named_modules():
            module.register_forward_hook(lambda *_, name=name: self.ran.append(name))

    def extract_feat(self, images):
        feature = self.backbone(F.interpolate(images, 8) if self.resize else images)
        return feature, F.avg_pool2d(feature, 2)


IMAGES = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def test_nothing_runs_after_the_tap_and_no_hook_stays():
    model = Net()
    ((feature,),) = features_at(model, IMAGES, ['backbone.1']).values()
    assert torch.equal(feature, model.backbone[:2](IMAGES)) and model.ran[:2] == ['backbone.0', 'backbone.1']
    assert len(model.ran) == 4, 'two of them by the line above'
    assert len(model.backbone[1]._forward_hooks) == 1, 'that of this test'


def test_of_a_classifier_too():
    model = build_model(ConfigDict(classifier())).eval()
    ran = []
    model.head.register_forward_hook(lambda *_: ran.append('head'))
    model.backbone.layer3.register_forward_hook(lambda *_: ran.append('layer3'))
    features = features_at(model, torch.randn(2, 1, 8, 8), ['backbone.layer1', 'backbone.layer2'])
    assert list(features) == ['backbone.layer1', 'backbone.layer2'] and not ran


def test_calls_of_a_module_follow_one_another():
    model = Net()
    features = features_at(model, IMAGES, {'backbone.3': 1, 'head.score': 2})
    assert [tuple(tensor.shape) for tensor in features['head.score']] == [(2, 2, 4, 4), (2, 2, 2, 2)]
    once = features_at(model, IMAGES, ['head.score'])['head.score']
    assert len(once) == 1 and torch.equal(once[0], features['head.score'][0])
    with capture(model, {'head.score': 2}) as whole:
        model.head.forward(model.extract_feat(IMAGES))
    assert all(map(torch.equal, whole['head.score'], features['head.score']))


def test_a_head_that_needs_more_than_features():
    with pytest.raises(
        ConfigError, match=r"'picky', Bilinear, does not run on the features alone \(TypeError: .*dense ones"
    ):
        features_at(Net(), IMAGES, ['picky'])


def test_tensors_of_an_output_and_an_output_with_others():
    pair = namedtuple('pair', 'a b')
    grid = torch.tensor([4, 4])
    output = dict(x=pair(torch.zeros(1), grid), y=[(torch.ones(2),), None], z='text')
    assert [len(tensor) for tensor in feature_tensors(output)] == [1, 2]
    put = with_tensors(output, [torch.full((3,), 7.0), torch.full((4,), 8.0)])
    assert isinstance(put['x'], pair) and put['x'].b is grid and put['y'][1] is None and put['z'] == 'text'
    assert [len(tensor) for tensor in feature_tensors(put)] == [3, 4] and len(output['x'].a) == 1
    assert feature_tensors(grid) == () and feature_tensors(None) == ()


def test_watching_says_the_order_the_image_and_what_depends_on_what():
    model = Net()
    with as_found(model):
        trace = watch(model, IMAGES, ['head.score'])
    assert trace.image == (16, 16) and trace.heads == ['head'] and len(trace.outputs['head.score']) == 2
    assert trace.entered['backbone.0'] < trace.exited['backbone.0'][0] < trace.entered['backbone.3']
    assert trace.exited['backbone'][0] < trace.exited['head.score'][0] < trace.exited['head.score'][1]
    behind = parameters_behind((trace.outputs['backbone.1'],))  # the image is one of them
    assert behind & {*map(id, model.parameters())} == {id(p) for p in model.backbone[:2].parameters()}
    assert original_tensors(trace.feature) == [0], 'the second level is made from the first'
    assert not image_resizers(feature_tensors(trace.feature))


def test_a_resized_image_is_seen():
    model = Net(resize=True)
    with as_found(model):
        (name,) = image_resizers(feature_tensors(watch(model, IMAGES).feature))
    assert name.startswith('Upsample')


@pytest.mark.parametrize('inplace', [False, True])
def test_what_changes_a_feature_in_place_is_named(inplace):
    model = Net(inplace)
    with as_found(model):
        trace = watch(model, IMAGES)
    assert changed_in_place_by(trace, 'backbone.1') == ('backbone.2' if inplace else None)


def test_a_model_is_left_as_it_was_found():
    model = Net()
    model.backbone[1].eval()
    model.backbone[0].weight.requires_grad_(False)
    model.head.with_cp = True
    before = [module.training for module in model.modules()], torch.get_rng_state()
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    with pytest.raises(ZeroDivisionError), torch.no_grad(), as_found(model):
        assert model.backbone[0].weight.requires_grad and torch.is_grad_enabled()
        assert not model.training and model.head.with_cp is False
        watch(model, torch.rand(2, 3, 16, 16))
        raise ZeroDivisionError
    assert [module.training for module in model.modules()] == before[0] and torch.equal(
        torch.get_rng_state(), before[1]
    )
    assert model.head.with_cp is True and not model.backbone[0].weight.requires_grad
    assert all(torch.equal(buffer, buffers[name]) for name, buffer in model.named_buffers())
