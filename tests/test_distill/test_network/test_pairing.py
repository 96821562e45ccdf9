"""Two networks are paired stage by stage and size by size; what does not fit is refused with advice that works."""

import pytest
import torch
from helpers import classifier, require_ops
from mmengine.config import ConfigDict
from mmengine.model import BaseModel
from torch import nn

from mmsskd.distill.build import build_model
from mmsskd.distill.external_teacher import ExternalTeacher
from mmsskd.distill.network import pairing
from mmsskd.distill.network.forward import features_at
from mmsskd.distill.network.pairing import Pairing, build_adapter, match_size, student_trains
from mmsskd.distill.network.stages import taps_of
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
