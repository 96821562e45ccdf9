"""Two networks are paired stage by stage and size by size; what does not fit is refused with advice that works."""

import json

import numpy as np
import pytest
import torch
from distill_helpers import IMAGES, build, phase, samples
from helpers import classifier, require_ops, run_cfg, same, save_weights, train, weights
from mmengine.config import ConfigDict
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch import nn

from mmsskd.distill import LogitsKDLoss
from mmsskd.distill.build import build_model
from mmsskd.distill.network import pairing
from mmsskd.distill.network.forward import features_at
from mmsskd.distill.network.pairing import Pairing, build_adapter, match_size, student_trains
from mmsskd.distill.network.stages import taps_of
from mmsskd.distill.teacher import ExternalTeacher
from mmsskd.errors import ConfigError

TINY = dict(embed_dims=8, num_layers=4, num_heads=2, feedforward_channels=16)
GAP = dict(type='mmpretrain.GlobalAveragePooling')


def image_classifier(backbone, neck=None):
    require_ops(backbone)
    return build_model(
        ConfigDict(_scope_='mmpretrain', type='mmpretrain.ImageClassifier', backbone=backbone, neck=neck)
    )


def vit(kind='VisionTransformer', **changes):
    return image_classifier(dict(dict(type=f'mmpretrain.{kind}', arch=TINY, img_size=32, patch_size=8), **changes))


def resnet(**changes):
    """Maps of 8, 4, 2, 1 places a side of an image of 32."""
    return image_classifier(
        dict(dict(type='mmpretrain.ResNet', depth=18, base_channels=4, stem_channels=4), **changes), GAP
    )


def swin():
    """Tokens of 64, 16, 4 places, then a map of 1."""
    arch = dict(embed_dims=4, depths=[1, 1, 1, 1], num_heads=[1, 1, 1, 1])
    return image_classifier(
        dict(
            type='mmpretrain.SwinTransformer', arch=arch, img_size=32, patch_size=4, window_size=2, pad_small_map=True
        ),
        GAP,
    )


def pair(student, teacher, **changes):
    return Pairing(**dict(dict(input_shape=(3, 32, 32)), **changes)).pair(student, teacher)


@pytest.fixture
def log(monkeypatch):
    lines = []
    monkeypatch.setattr(pairing, 'print_log', lambda message, **kwargs: lines.append(message))
    return lines


class Detector(BaseModel):
    """A backbone of five resolutions and a neck over those named; a level that is not one of theirs is a convolution of its own."""

    def __init__(self, levels, extra=0):
        super().__init__()
        self.backbone = nn.Sequential(*[nn.Conv2d(3 if i == 0 else 4, 4, 3, 2, 1) for i in range(5)])
        self.neck = Neck(levels, extra)

    def extract_feat(self, inputs):
        features = []
        for layer in self.backbone:
            inputs = layer(inputs)
            features.append(inputs)
        return self.neck(features)

    def forward(self, inputs, data_samples=None, mode='tensor'):
        return self.extract_feat(inputs)


class Neck(nn.Module):
    def __init__(self, levels, extra):
        super().__init__()
        self.levels = levels
        self.convs = nn.ModuleList(nn.Conv2d(4, 4, 1) for _ in levels)
        self.extra = nn.ModuleList(nn.Sequential(nn.Conv2d(4, 4, 3, 2, 1), nn.BatchNorm2d(4)) for _ in range(extra))

    def forward(self, features):
        outputs = [conv(features[level]) for conv, level in zip(self.convs, self.levels)]
        for layer in self.extra:
            outputs.append(layer(outputs[-1]))
        return outputs


NECK = dict(stages=['4', 'neck'], input_shape=(3, 128, 128))


@pytest.mark.parametrize('resize', [False, True])
def test_levels_of_a_neck_are_paired_by_size(log, resize):
    """Strides 4, 8, 16 of the teacher, 8, 16, 32 of the student: 8 with 8 and 16 with 16, whatever ``resize`` says."""
    own, theirs, _ = pair(Detector([2, 3], extra=1), Detector([1, 2, 3]), resize=resize, **NECK)
    assert own['neck'].shapes == theirs['neck'].shapes == ((4, 16, 16), (4, 8, 8))
    image = torch.randn(1, 3, 128, 128)
    for model, stage in ((Detector([2, 3], extra=1), own['neck']), (Detector([1, 2, 3]), theirs['neck'])):
        feature = stage.feature({'neck': tuple(model.extract_feat(image))})
        assert [tuple(tensor.shape[1:]) for tensor in feature] == list(stage.shapes)
    left = [name for name in own['neck'].parameters if 'extra' in name]
    assert not left and 'neck.extra.0.0' not in own['neck'].modules and 'neck.convs.1' in own['neck'].modules
    (line,) = log
    assert "stage 'neck': paired by size" in line and 'dropped: student 4x4x4, teacher 4x32x32' in line
    assert '4 parameters of the student after what is dropped train with the head' in line


def test_levels_of_other_numbers(log):
    own, theirs, _ = pair(Detector([1, 2, 3]), Detector([2, 3, 4], extra=2), **NECK)
    assert own['neck'].shapes == theirs['neck'].shapes == ((4, 16, 16), (4, 8, 8))
    assert 'dropped: student 4x32x32, teacher 4x4x4 + 4x2x2 + 4x1x1' in log[0]


def test_levels_in_another_order(log):
    """YOLOv3's neck begins with the coarsest level: strides are paired all the same, and nothing is dropped."""
    own, theirs, _ = pair(Detector([3, 2, 1]), Detector([1, 2, 3]), **NECK)
    assert own['neck'].shapes == theirs['neck'].shapes == ((4, 8, 8), (4, 16, 16), (4, 32, 32))
    assert [level.tensor for level in theirs['neck'].levels] == [2, 1, 0]
    assert 'dropped: student nothing, teacher nothing' not in ''.join(log)


@pytest.mark.parametrize(('student', 'teacher'), [([1, 2], [3, 4]), ([1], [3, 4])])
def test_levels_of_which_no_two_are_equal(student, teacher):
    with pytest.raises(
        ConfigError, match=r"stage 'neck': .*: no tensor of the one has as many places.*the same strides"
    ) as error:
        pair(Detector(student), Detector(teacher), **NECK)
    assert 'resize' not in str(error.value)


def test_layer_that_no_stage_reaches():
    """Level 0 alone needs the first two layers; the neck's others need two more, and the last layer nobody needs."""
    with pytest.raises(ConfigError, match=r'4 parameters belong to no stage.*backbone\.3\.bias\. End the last stage'):
        pair(Detector([1, 2, 3]), Detector([1, 2, 3]), stages=['neck.0'], input_shape=(3, 128, 128))


def test_level_without_which_a_backbone_would_not_train():
    branches = dict(
        stage1=dict(num_modules=1, num_branches=1, block='BOTTLENECK', num_blocks=(1,), num_channels=(4,)),
        stage2=dict(num_modules=1, num_branches=2, block='BASIC', num_blocks=(1, 1), num_channels=(4, 8)),
        stage3=dict(num_modules=1, num_branches=3, block='BASIC', num_blocks=(1, 1, 1), num_channels=(4, 8, 8)),
        stage4=dict(num_modules=1, num_branches=4, block='BASIC', num_blocks=(1, 1, 1, 1), num_channels=(4, 8, 8, 8)),
    )
    student = image_classifier(dict(type='mmpretrain.HRNet', extra=branches))
    with pytest.raises(
        ConfigError, match=r"stage 'stage4': the teacher 32x8x8 has no tensor of the size of .*would learn nothing"
    ):
        pair(
            student,
            resnet(strides=(1, 1, 1, 1)),
            stages=['layer1', 'stage4'],
            teacher_stages=['layer1', 'layer4'],
        )


def test_class_tokens_without_a_partner_are_left_out(log):
    own, theirs, _ = pair(vit(), vit('DistilledVisionTransformer'))
    assert len(own) == 4
    assert all(stage.shapes == ((16, 8), (1, 8)) for stage in [*own.values(), *theirs.values()])
    assert len(log) == 4 and 'dropped: student nothing, teacher 1x8' in log[0]
    own, theirs, _ = pair(vit(), vit(with_cls_token=False, out_type='raw'))
    assert all(stage.shapes == ((16, 8),) for stage in [*own.values(), *theirs.values()])


def test_maps_and_tokens_are_compared_place_by_place():
    """A ResNet's map and a Swin's tokens: the same places in the same order, as the Swin's own map has them."""
    student, teacher = resnet(), swin()
    own, theirs, adapters = pair(student, teacher)
    assert [stage.shapes[0] for stage in own.values()] == [(64, 4), (16, 8), (4, 16), (32, 1, 1)]
    assert [stage.shapes[0] for stage in theirs.values()] == [(64, 4), (16, 8), (4, 16), (32, 1, 1)]
    assert not adapters
    feature = torch.arange(24.0).reshape(1, 4, 2, 3)
    (tokens,) = own['layer1'].feature({'backbone.layer1': (feature,)})
    assert torch.equal(tokens[0, 4], feature[0, :, 1, 1])  # row by row
    own, theirs, adapters = pair(teacher, resnet(base_channels=8))
    assert adapters['stages.0'](own['stages.0'].feature({'backbone.stages.0': (torch.randn(2, 64, 4),)}))[0].shape == (
        2,
        64,
        8,
    )


def test_a_vector_beside_a_map(log):
    """The backbone that pools ends before that; what follows is the head's. A vector that a stage names stays one."""
    layers = dict(stages=['layers.1', 'layers.3'], teacher_stages=['layer2', 'layer4'])
    maps = resnet(strides=(1, 1, 1, 1))
    own, theirs, _ = pair(vit(out_type='avg_featmap'), maps, **layers)
    assert own['layers.3'].tap == 'backbone.ln1' and own['layers.3'].shapes == ((16, 8),)
    assert 'the backbone of the student pools what it returns' in log[0]
    arch = dict(depths=[1, 1, 1, 1], channels=[4, 4, 4, 4])
    pooled = image_classifier(dict(type='mmpretrain.ConvNeXt', arch=arch))
    image = dict(input_shape=(3, 64, 64))
    _, theirs, _ = pair(resnet(), pooled, **image)
    assert theirs['layer4'].shapes == ((4, 2, 2),)
    own, theirs, _ = pair(pooled, resnet(), **image)
    left = {name for name, _ in pooled.backbone.named_parameters() if name.startswith('norm')}
    assert left and not {f'backbone.{name}' for name in left} & set(own['stages.3'].parameters)
    with pytest.raises(ConfigError, match='one is a vector without places, the other a map'):
        build_adapter([(8,)], [(4, 8, 8)], 'neck', None)


def test_stages_of_other_numbers(monkeypatch):
    """Where nobody names them: those of as many places, whichever network has more."""
    messages = []
    monkeypatch.setattr(pairing, '_warn', messages.append)
    four = resnet()
    three = resnet(num_stages=3, strides=(1, 2, 2), dilations=(1, 1, 1), out_indices=(2,))
    own, theirs, _ = pair(three, four)
    assert [stage.name for stage in theirs.values()] == ['layer1', 'layer2', 'layer3'] == list(own)
    own, theirs, _ = pair(four, three)
    assert list(own) == ['layer2', 'layer3', 'layer4'] and 'backbone.layer1.0.conv1.weight' in own['layer2'].parameters
    assert len(messages) == 2 and 'the teacher has 4 stages, of which the 3 of the student follow' in messages[0]


def test_tokens_beside_a_map_of_another_size(log):
    """The finer of the two is pooled: 16 tokens as a map of 4 x 4, beside maps of 8 and 1 places a side."""
    stages = dict(stages=['layers.1', 'layers.3'], teacher_stages=['layer1', 'layer3'])
    tokens = vit(with_cls_token=False, out_type='raw')
    with pytest.raises(
        ConfigError, match=r"stage 'layers.1': .*places differ \(16 and 64\); .*remove model.resize=False"
    ):
        pair(tokens, resnet(), resize=False, **stages)
    own, _, _ = pair(tokens, resnet(strides=(1, 1, 1, 1)), **stages)
    assert [stage.shapes for stage in own.values()] == [((16, 8),), ((16, 8),)]
    assert 'the places differ (16 and 64), the finer of the two is pooled' in log[0]
    pair(tokens, resnet(strides=(1, 1, 1, 1)), resize='bilinear', **stages)
    assert 'the places differ (16 and 64), the coarser of the two is interpolated' in log[-1]


def convnext():
    arch = dict(depths=[1, 1, 1, 1], channels=[4, 8, 8, 8])
    return image_classifier(dict(type='mmpretrain.ConvNeXt', arch=arch, gap_before_final_norm=False), GAP)


def pvt():
    """Of mmdet: tokens inside, maps outside."""
    sizes = dict(embed_dims=4, num_layers=[1, 1, 1, 1], num_heads=[1, 1, 1, 1], patch_sizes=[4, 2, 2, 2])
    backbone = dict(type='mmdet.PyramidVisionTransformer', mlp_ratios=[2, 2, 2, 2], out_indices=(0, 1, 2, 3), **sizes)
    return image_classifier(dict(backbone, pretrain_img_size=32, sr_ratios=[1, 1, 1, 1]))


def torchvision_swin():
    """Maps with the channels last."""
    arguments = dict(patch_size=[4, 4], embed_dim=6, depths=[1, 1, 1, 1], num_heads=[1, 1, 1, 1], window_size=[2, 2])
    return ExternalTeacher(
        'torchvision.models.SwinTransformer', arguments=arguments, normalize=dict(mean=[0.5], std=[0.5])
    )


KINDS = dict(resnet=resnet, swin=swin, vit=vit, convnext=convnext, pvt=pvt)


@pytest.mark.parametrize('teacher', [*KINDS, 'torchvision_swin'])
@pytest.mark.parametrize('student', KINDS)
def test_every_kind_follows_every_other(student, teacher):
    """Cut as they stand into four; each stage has something to compare, and all of the backbone learns."""
    own, theirs = KINDS[student](), KINDS.get(teacher, torchvision_swin)()
    mine, others, adapters = pair(own, theirs)
    assert len(mine) == 4
    image = torch.randn(2, 3, 32, 32)
    outputs, taught = (
        features_at(own, image, taps_of(mine.values())),
        features_at(theirs, image, taps_of(others.values())),
    )
    for name, stage in mine.items():
        feature = stage.feature(outputs)
        feature = adapters[name](feature) if name in adapters else feature
        for pair_of in zip(feature, others[name].feature(taught), strict=True):
            a, b = match_size(*pair_of)
            assert a.shape == b.shape and a.ndim > 2
    left = {name for name, _ in own.named_parameters() if name.startswith('backbone.')}
    assert left == {name for stage in mine.values() for name in stage.parameters if name.startswith('backbone.')}


def test_maps_with_the_channels_last():
    """They are compared as (C, H, W), and the classifier in the backbone is no part of the last stage."""
    _, theirs, _ = pair(resnet(), torchvision_swin())
    assert [stage.shapes[0] for stage in theirs.values()] == [(6, 8, 8), (12, 4, 4), (24, 2, 2), (48, 1, 1)]
    assert theirs['layer4'].tap == 'backbone.norm'
    feature = torch.arange(24.0).reshape(1, 2, 2, 6)
    assert torch.equal(theirs['layer3'].feature({theirs['layer3'].tap: (feature,)})[0][0, :, 0, 1], feature[0, 0, 1])


@pytest.mark.parametrize(
    ('student', 'teacher', 'images', 'pooled', 'interpolated'),
    [
        ((2, 4, 8, 8), (2, 4, 4, 4), (1, 1), (4, 4), (8, 8)),
        ((2, 4, 8, 8), (2, 9, 4), (1, 1), (3, 3), (8, 8)),
        ((2, 18, 4), (2, 4, 12, 24), (32, 64), (3, 6), (12, 24)),
        ((2, 16, 4), (2, 25, 4), (1, 1), (4, 4), (5, 5)),
        ((2, 140, 4), (2, 35, 4), (224, 160), (7, 5), (14, 10)),  # tokens alone: the proportions are those of the image
        ((2, 4, 8, 4), (2, 4, 6, 6), (1, 1), (6, 4), (8, 6)),
        ((2, 1, 4), (2, 1, 4), (1, 1), None, None),
        ((2, 4), (2, 4), (1, 1), None, None),
    ],
)
def test_places_that_are_brought_together(student, teacher, images, pooled, interpolated):
    features = torch.randn(student), torch.randn(teacher)
    for interpolate, size in ((False, pooled), (True, interpolated)):
        found = match_size(*features, (images, images), interpolate)
        expected = [(2, 4, *size)] * 2 if size else [student, teacher]
        assert [tuple(each.shape) for each in found] == expected


def test_tokens_keep_their_places_on_the_grid():
    tokens, images = torch.arange(18.0).reshape(1, 18, 1), [(32, 64)] * 2
    grid = tokens[0].reshape(3, 6)
    pooled, other = match_size(tokens, torch.zeros(1, 1, 1, 2), images)
    assert pooled[0, 0, 0].tolist() == [grid[:, :3].mean(), grid[:, 3:].mean()]
    assert other.shape == pooled.shape
    wide, other = match_size(tokens, torch.zeros(1, 1, 3, 12), images, interpolate=True)
    assert torch.allclose(wide[0, 0, 1, 1:11:2], 0.75 * grid[1, :-1] + 0.25 * grid[1, 1:]) and other.shape == wide.shape


def test_images_that_are_no_squares(tmp_path):
    """A ViT with patches of 8 follows one with patches of 16; a teacher that gets squares has a grid of its own."""
    wide = dict(img_size=(32, 64), with_cls_token=False, out_type='raw')
    own, theirs, _ = pair(vit(patch_size=8, **wide), vit(patch_size=16, **wide), input_shape=(3, 32, 64))
    assert [stage.shapes[0][0] for stage in (own['layers.3'], theirs['layers.3'])] == [32, 8]
    tokens, squares = torch.randn(1, 32, 8), torch.randn(1, 9, 8)
    assert [each.shape for each in match_size(tokens, squares, ((32, 64), (48, 48)))] == [(1, 8, 3, 3)] * 2


def test_tokens_on_no_grid():
    with pytest.raises(ConfigError, match=r'17 tokens of an image of 8x8 lie on no grid of its proportions'):
        match_size(torch.zeros(1, 17, 4), torch.zeros(1, 4, 8, 8), ((8, 8), (8, 8)))
    with pytest.raises(
        ConfigError, match='tokens that lie on no grid cannot be compared with another number of places'
    ):
        build_adapter([(17, 4)], [(4, 8, 8)], 'layer1', None)


def test_one_depth_of_the_teacher_for_all_stages():
    own, theirs, _ = pair(resnet(), vit(), teacher_stages=['layers.3'] * 4)
    assert list(own) == ['layer1', 'layer2', 'layer3', 'layer4']
    assert {stage.name for stage in theirs.values()} == {'layers.3'}


def test_fewer_depths_than_the_student_has_stages(monkeypatch):
    """The last stages follow them; what comes before belongs to the first of these."""
    messages = []
    monkeypatch.setattr(pairing, '_warn', messages.append)
    student = resnet()
    own, theirs, _ = pair(student, vit(), teacher_stages=['layers.3'])
    assert list(own) == list(theirs) == ['layer4'] and theirs['layer4'].name == 'layers.3'
    assert len(own['layer4'].parameters) == len(list(student.backbone.parameters()))
    (message,) = messages
    assert "the student has 4 stages, the teacher 1: ['layer4'] follow these" in message


def test_stages_of_the_student_that_the_teacher_has_not():
    """A teacher of other names is cut where its own stages end."""
    _, theirs, _ = pair(resnet(), vit(), stages=['layer1', 'layer2', 'layer3', 'layer4'])
    assert [stage.name for stage in theirs.values()] == ['layers.0', 'layers.1', 'layers.2', 'layers.3']


class OneBlock(BaseModel):
    """A network that cannot be cut."""

    def __init__(self):
        super().__init__()
        self.backbone = nn.Sequential(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3)), nn.ReLU())

    def extract_feat(self, inputs):
        return self.backbone(inputs)

    def forward(self, inputs, data_samples=None, mode='tensor'):
        return self.extract_feat(inputs)


def test_one_stage_is_warned_about(monkeypatch):
    messages = []
    monkeypatch.setattr(pairing, '_warn', messages.append)
    own, _, _ = pair(OneBlock(), OneBlock())
    assert len(own) == 1 and 'cut into one stage' in messages[0] and 'model.stages' in messages[0]
    pair(resnet(), resnet(), stages=['layer4'])  # asked for
    assert len(messages) == 1


@pytest.mark.parametrize(
    ('backbone', 'stages', 'message'),
    [
        (dict(frozen_stages=1), None, 'set frozen_stages=-1 in model.student.backbone'),
        (
            dict(norm_cfg=dict(type='BN', requires_grad=False)),
            ['conv1', 'relu', 'layer3'],
            'set requires_grad=True in its norm_cfg',
        ),
    ],
)
def test_what_freezes_a_stage_is_named(backbone, stages, message):
    model = build_model(ConfigDict(classifier(depth=8, **backbone), _scope_='mmpretrain'))
    own, _, _ = pair(model, model, stages=stages, input_shape=(1, 8, 8))
    with pytest.raises(ConfigError, match='has nothing to train') as error:
        student_trains(model, own.values())
    assert str(error.value).endswith(message)


def test_frozen_by_code():
    """frozen_stages is -1 already: that is not said again. Of ConvNeXt, the number that freezes nothing is 0."""
    model = build_model(ConfigDict(classifier(depth=8), _scope_='mmpretrain'))
    own, _, _ = pair(model, model, input_shape=(1, 8, 8))
    for parameter in model.backbone.layer2.parameters():
        parameter.requires_grad = False
    with pytest.raises(
        ConfigError, match=r"'layer2' has nothing to train.*its code sets requires_grad=False, for instance of backb"
    ) as e:
        student_trains(model, own.values())
    assert 'frozen_stages' not in str(e.value)
    arch = dict(depths=[1, 1, 1, 1], channels=[4, 4, 4, 4])
    model = image_classifier(dict(type='mmpretrain.ConvNeXt', arch=arch, frozen_stages=1))
    own, _, _ = pair(model, model)
    with pytest.raises(ConfigError, match=r"'stages.0' has nothing to train.*set frozen_stages=0 in"):
        student_trains(model, own.values())


# -- adapters with batch normalization: it moves with its stage and is not exported ------------------------------------


def test_norm_of_an_adapter_moves_with_its_stage_only(teacher_path):
    model = build(teacher_path, student=classifier(depth=8, width=1))
    convolution, norm = model.adapters['layer2'].levels[0]
    assert convolution.bias is None and norm.num_features == 16
    for part, moves in (('layer2', True), ('layer1', False), ('head', False)):
        phase(model, train=part).train()
        assert [m.training for m in (convolution, norm)] == [moves] * 2, part
        assert norm.weight.requires_grad is moves
    phase(model, train='layer1', mimic='layer2').train()  # through the adapter, without moving it
    before = {name: value.clone() for name, value in model.adapters.state_dict().items()}
    model(IMAGES, None, mode='loss')['loss_mimic_layer2'].backward()
    assert same(before, model.adapters.state_dict()) and model.student.backbone.conv1.weight.grad is not None
    phase(model, train='layer2').train()
    losses = model(IMAGES, None, mode='loss')
    feature = model.student.backbone.layer2
    assert norm.num_batches_tracked == 1 and feature.training and torch.isfinite(losses['loss_mimic_layer2'])


@pytest.mark.slow
def test_normed_adapters_of_a_run(tmp_path, teacher_path):
    """Each moves in its own phase, to the bit in no other, and is not exported."""
    cfg = run_cfg(tmp_path, teacher_path, student=classifier(depth=8, width=1))
    runner = train(cfg)
    ends = [weights(tmp_path / f'phase{i}_layer{i}.pth') for i in (1, 2, 3)]
    for first, second, moved in ((ends[0], ends[1], 'layer2'), (ends[1], ends[2], 'layer3')):
        names = {
            name.split('.')[1] for name in first if 'adapters' in name and not torch.equal(first[name], second[name])
        }
        assert names == {moved}
    assert same(ends[2], runner.model.state_dict(), [name for name in ends[2] if 'adapters' in name])
    assert any('adapters' in name and 'running_var' in name for name in ends[2])
    assert not any('adapters' in name for name in weights(tmp_path / 'student.pth'))


def test_norm_of_tokens_and_vectors():
    from mmsskd.distill.network.pairing import FeatureAdapter

    for shape in ((7, 4), (4,)):
        adapter = FeatureAdapter([shape], [(*shape[:-1], 6)], norm=True)
        (out,) = adapter([torch.randn(5, *shape)])
        assert out.shape == (5, *shape[:-1], 6)
        flat = out.flatten(0, -2)
        torch.testing.assert_close(flat.mean(0), torch.zeros(6), rtol=0, atol=1e-5)
        torch.testing.assert_close(flat.var(0, unbiased=False), torch.ones(6), rtol=1e-2, atol=0)
        synced = torch.nn.SyncBatchNorm.convert_sync_batchnorm(adapter).eval()  # as a run with sync_bn does
        assert synced([torch.randn(5, *shape)])[0].shape == out.shape


# -- logits: the loss against Hinton's formula in numpy, what runs, what trains, what is refused -----------------------


def softmax(logits, temperature):
    shifted = np.exp((logits - logits.max(1, keepdims=True)) / temperature)
    return shifted / shifted.sum(1, keepdims=True)


def kd(student, teacher, temperature=4.0, weight=0.9):
    """Value, and gradient with respect to the student's logits, in numpy: T (p_s - p_t) / N."""
    s, t = (x.detach().double().numpy() for x in (student, teacher))
    p, q = softmax(s, temperature), softmax(t, temperature)
    value = weight * temperature**2 * (q * (np.log(q) - np.log(p))).sum(1).mean()
    return value, weight * temperature * (p - q) / len(s)


@pytest.mark.parametrize(('temperature', 'weight'), [(4.0, 0.9), (1.0, 1.0), (20.0, 0.5)])
def test_value_and_gradient(temperature, weight):
    generator = torch.Generator().manual_seed(0)
    student, teacher = (5 * torch.randn(6, 10, generator=generator) for _ in range(2))
    student.requires_grad_()
    teacher.requires_grad_()
    loss = LogitsKDLoss(temperature, weight)(student, teacher)
    loss.backward()
    value, gradient = kd(student, teacher, temperature, weight)
    assert loss.item() == pytest.approx(value, rel=1e-5)
    np.testing.assert_allclose(student.grad.numpy(), gradient, atol=1e-6)
    assert teacher.grad is None


def test_computed_in_fp32_outside_autocast():
    student, teacher = torch.randn(4, 10).bfloat16(), torch.randn(4, 10).bfloat16()
    with torch.autocast('cpu', dtype=torch.bfloat16):
        loss = LogitsKDLoss()(student, teacher)
    assert loss.dtype == torch.float32 and loss.item() == pytest.approx(kd(student, teacher)[0], rel=1e-5)


def test_temperature_must_be_above_zero():
    with pytest.raises(ConfigError, match=r'LogitsKDLoss.temperature must be a number above 0, found 0'):
        LogitsKDLoss(temperature=0)


def counted(model):
    """How often the first layer, the logits layer, of the teacher runs."""
    ran = []
    for path in ('backbone.conv1', 'head.fc'):
        model.teacher.get_submodule(path).register_forward_hook(lambda m, a, o, path=path: ran.append(path))
    return ran


def test_head_from_logits_alone_needs_no_labels(teacher_path):
    model = phase(build(teacher_path, logits='head.fc'), train='head', logits=True, task_loss=False).train()
    ran = counted(model)
    losses = model(IMAGES, None, mode='loss')
    assert set(losses) == {'loss_logits'} and ran == ['backbone.conv1', 'head.fc']
    own, theirs = (getattr(model, side)(IMAGES) for side in ('student', 'teacher'))
    assert losses['loss_logits'].item() == pytest.approx(kd(own, theirs)[0], rel=1e-3)
    losses['loss_logits'].backward()
    assert {name for name, p in model.named_parameters() if p.grad is not None} == {
        'student.head.fc.weight',
        'student.head.fc.bias',
    }
    np.testing.assert_allclose(model.student.head.fc.bias.grad.numpy(), kd(own, theirs)[1].sum(0), atol=1e-6)


def test_logits_features_and_task_from_one_forward_of_each(teacher_path):
    fields = dict(train='all', mimic=['layer1', 'layer3'], logits=True, task_weight=0.1)
    model = build(teacher_path, logits=dict(module='head.fc', loss=dict(type='mmsskd.LogitsKDLoss', temperature=2.0)))
    phase(model, **fields).train()
    ran, passes = counted(model), []
    model.student.backbone.conv1.register_forward_hook(lambda m, a, o: passes.append(1))
    losses = model(IMAGES, samples(), mode='loss')
    assert ran == ['backbone.conv1', 'head.fc'] and passes == [1]
    assert {key for key in losses if 'loss' in key} == {'loss', 'loss_logits', 'loss_mimic_layer1', 'loss_mimic_layer3'}
    model.parse_losses(losses)[0].backward()
    assert all(p.grad is not None for p in model.student.parameters())
    own = model.student(IMAGES)  # BN in training mode: the same batch gives the same logits
    theirs = model.teacher(IMAGES)
    assert losses['loss_logits'].item() == pytest.approx(kd(own, theirs, temperature=2.0)[0], rel=1e-3)
    truth = -np.log(softmax(own.detach().double().numpy(), 1.0)[range(4), range(4)]).mean()
    assert losses['loss'].item() == pytest.approx(
        0.1 * truth, rel=1e-5
    )  # Hinton: 0.1 of the labels, 0.9 of the teacher


def test_task_weight_scales_losses_and_nothing_else(teacher_path):
    """A model of mmdet returns lists of losses, and numbers that are only logged."""
    model = phase(build(teacher_path), train='head', task_weight=0.5)
    returned = dict(
        loss_cls=[torch.tensor(2.0), torch.tensor(4.0)], loss_bbox=torch.tensor(8.0), acc=torch.tensor(16.0)
    )
    model.student.forward = lambda *args, **kwargs: returned
    losses = model.loss(IMAGES, None)
    assert losses == dict(loss_cls=[1.0, 2.0], loss_bbox=4.0, acc=16.0)
    assert returned['loss_bbox'] == 8.0


def test_run_trains_the_head_alone_and_measures_it(tmp_path, teacher_path):
    """The layers before it keep every bit, the teacher too, and the head comes nearer to the teacher's."""
    sgd = dict(optimizer=dict(type='SGD', lr=20.0))
    phases = [dict(train='layer1'), dict(train='head', logits=True, task_loss=False, epochs=4, optim_wrapper=sgd)]
    cfg = run_cfg(tmp_path, teacher_path, hook=dict(phases=phases))
    cfg.model.logits = 'head.fc'
    runner = train(cfg)
    before, after = weights(tmp_path / 'phase1_layer1.pth'), runner.model.state_dict()
    assert {name for name in before if not torch.equal(before[name], after[name])} == {'head.fc.weight', 'head.fc.bias'}
    assert same(weights(teacher_path), runner.model.teacher.state_dict())
    lines = [json.loads(line) for line in next(tmp_path.glob('*/vis_data/scalars.json')).read_text().splitlines()]
    losses = [line['loss_logits'] for line in lines if 'loss_logits' in line]
    assert np.mean(losses[-3:]) < 0.9 * np.mean(losses[:3])
    assert sum('accuracy/top1' in line for line in lines) == 4  # in each epoch of this phase, in none of the transfer


@pytest.mark.slow
def test_resumed_run(tmp_path, teacher_path):
    def cfg(folder):
        phases = [dict(train='layer1'), dict(train='all', logits=True, task_weight=0.1, epochs=2)]
        cfg = run_cfg(tmp_path / folder, teacher_path, hook=dict(phases=phases))
        cfg.model.logits = 'head.fc'
        return cfg

    train(cfg('whole'))
    cut = cfg('cut')
    cut.resume, cut.load_from = True, str(tmp_path / 'whole/epoch_2.pth')
    train(cut)
    assert same(weights(tmp_path / 'whole/epoch_3.pth'), weights(tmp_path / 'cut/epoch_3.pth'))
    cut.default_hooks.stage_schedule.phases[1].pop('logits')
    cut.work_dir = str(tmp_path / 'changed')
    with pytest.raises(ConfigError, match='Phase 2: logits is False, was True'):
        Runner.from_cfg(cut).train()


@pytest.mark.parametrize(
    ('model', 'message'),
    [
        (dict(), r'phase 1 \(head\): logits=True, but model.logits is not set; name the student'),
        (
            dict(logits='head.fd'),
            r"model.logits: the student, ImageClassifier, has no module 'head.fd'; did you mean 'head.fc'",
        ),
        (dict(logits=dict(modul='head.fc')), "model.logits: unknown field 'modul'; did you mean 'module'"),
        (
            dict(logits='backbone.layer3'),
            r"'backbone.layer3' of the student must give logits .* for 2 images it gave \(2, 32, 2, 2\)",
        ),
        (dict(logits='head.loss_module'), r"it gave nothing: it does not run with mode='tensor'"),
        (dict(logits='neck.gap'), r'must give logits of shape \(N, classes\)'),
    ],
)
def test_what_gives_no_logits_is_refused(tmp_path, teacher_path, model, message):
    cfg = run_cfg(tmp_path, teacher_path, hook=dict(phases=[dict(train='head', logits=True)]))
    cfg.model.update(model)
    with pytest.raises(ConfigError, match=message):
        train(cfg)


def test_different_numbers_of_classes_are_refused(tmp_path):
    teacher = save_weights(classifier(num_classes=7), tmp_path / 'seven.pth')
    with pytest.raises(ConfigError, match="'head.fc' of the student has 10 classes, that of the teacher 7"):
        build(teacher, teacher=classifier(num_classes=7), logits='head.fc')


def test_parameters_behind_the_logits_are_refused(tmp_path, teacher_path):
    """Those of the fully connected layer, where the pooled vector is taken for the logits."""
    cfg = run_cfg(tmp_path, teacher_path, hook=dict(phases=[dict(train='head', logits=True, task_loss=False)]))
    cfg.model.logits = 'neck'
    with pytest.raises(ConfigError, match=r'2 of the parameters that it trains get no gradient.*\(neck\)'):
        train(cfg)


def test_looking_for_the_logits_leaves_no_trace(teacher_path):
    plain, model = build(teacher_path), build(teacher_path, logits='head.fc')
    assert same(plain.state_dict(), model.state_dict())
    assert [m.training for m in plain.modules()] == [m.training for m in model.modules()][: len(list(plain.modules()))]
    assert not any(p.requires_grad for p in model.teacher.parameters())
    assert model.logits.reached == {name for name, _ in model.student.named_parameters()}
