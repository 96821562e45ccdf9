"""Features in front of the last activation of a stage."""

import pytest
import torch
from distill_helpers import IMAGES, build, phase
from helpers import classifier, run_cfg, same, save_weights, train, weights
from test_mimic_loss import explained

from mmsskd.errors import ConfigError


def by_hand(net, images, last):
    """A basic block's sum of residual and shortcut, without the ReLU behind it."""
    feature = net.relu(net.bn1(net.conv1(images)))
    for name in ('layer1', 'layer2', 'layer3'):
        for block in getattr(net, name):
            out = block.bn2(block.conv2(torch.relu(block.bn1(block.conv1(feature)))))
            out = out + (feature if block.downsample is None else block.downsample(feature))
            feature = torch.relu(out)
        if name == last:
            return out
    raise AssertionError


@pytest.mark.parametrize('name', ['layer1', 'layer3'])
def test_feature_and_gradient_are_those_of_the_residual_sum(teacher_path, name):
    """A block calls one ReLU twice, in place; it is the input of the last call."""
    model = phase(build(teacher_path, pre_activation=True), train=name).train()
    losses = model(IMAGES, None, mode='loss')
    with torch.no_grad():
        target = by_hand(model.teacher.backbone, IMAGES, name)
    own = by_hand(model.student.backbone, IMAGES, name)
    assert target.min() < 0  # no ReLU behind it
    assert losses[f'loss_mimic_{name}'].item() == pytest.approx(explained(own.detach(), target), rel=1e-4)
    losses[f'loss_mimic_{name}'].backward()
    got = {n: p.grad.clone() for n, p in model.student.named_parameters() if p.grad is not None}
    model.zero_grad()
    variance = ((target - target.mean((0, 2, 3), keepdim=True)) ** 2).mean()
    (((own - target) ** 2).mean() / variance).backward()
    assert got.keys() == set(model.stages[name].parameters)
    for n, gradient in got.items():
        torch.testing.assert_close(model.student.get_parameter(n).grad, gradient, rtol=1e-3, atol=1e-5)


def test_finding_it_leaves_no_trace(teacher_path):
    model, plain = build(teacher_path, pre_activation=True), build(teacher_path)
    assert same(plain.state_dict(), model.state_dict())
    assert model.stages['layer2'].activation == 'backbone.layer2.0.relu'
    assert model.teacher_stages['layer2'].activation == 'backbone.layer2.1.relu'
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.teacher.modules())


def test_next_stage_goes_on_behind_the_activation(teacher_path):
    """What the network computes is unchanged, with the teacher's features in the place of the student's too."""
    model, plain = (build(teacher_path, pre_activation=value).eval() for value in (True, False))
    plain.load_state_dict(model.state_dict())
    assert torch.equal(model(IMAGES), plain(IMAGES))
    phase(model, train='stages', prefix='teacher').eval()
    losses = model.loss(IMAGES, None)
    with torch.no_grad():
        before, target = (by_hand(model.teacher.backbone, IMAGES, name) for name in ('layer1', 'layer2'))
        block = model.student.backbone.layer2[0]
        feature = torch.relu(before)
        own = block.bn2(block.conv2(torch.relu(block.bn1(block.conv1(feature))))) + block.downsample(feature)
    assert losses['loss_mimic_layer2'].item() == pytest.approx(explained(own, target), rel=1e-4)


def test_run(tmp_path, teacher_path):
    cfg = run_cfg(tmp_path, teacher_path, student=classifier(depth=8, width=1))
    cfg.model.pre_activation = True
    runner = train(cfg)
    assert same(weights(teacher_path), runner.model.teacher.state_dict())
    first, second = weights(tmp_path / 'phase1_layer1.pth'), weights(tmp_path / 'phase2_layer2.pth')
    assert {n.split('.')[1] for n in first if not torch.equal(first[n], second[n])} == {'layer2'}


def test_a_stage_without_an_activation_at_its_end_is_refused(tmp_path, teacher_path):
    with pytest.raises(
        ConfigError, match=r"pre_activation: stage 'layer1.0.conv2' of the student .*does not end in an act"
    ):
        build(teacher_path, pre_activation=True, stages=['layer1.0.conv2', 'layer3'])
    model = dict(
        type='mmpretrain.ImageClassifier',
        backbone=dict(type='mmpretrain.ConvNeXt', arch=dict(depths=[1, 1], channels=[8, 16]), in_channels=1),
        head=dict(type='mmpretrain.LinearClsHead', num_classes=10, in_channels=16),
    )
    model['backbone'].update(stem_patch_size=2, out_indices=1)
    path = save_weights(model, tmp_path / 'convnext.pth')
    with pytest.raises(ConfigError, match=r"stage 'stages.0' of the student"):
        build(path, teacher=model, student=model, pre_activation=True)
    with pytest.raises(ConfigError, match=r'model.pre_activation must be True or False, found 1'):
        build(teacher_path, pre_activation=1)
