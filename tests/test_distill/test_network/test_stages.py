"""Stages are found by running the network, whatever its architecture."""

import re

import pytest
import torch
from helpers import classifier, require_ops
from mmengine.config import ConfigDict
from mmengine.model import BaseModel
from torch import nn

from mmsskd.distill.build import build_model, resolve_model_cfg, without_init
from mmsskd.distill.network.forward import features_at
from mmsskd.distill.network.pairing import Pairing
from mmsskd.distill.network.stages import find_stages
from mmsskd.errors import ConfigError

IMAGE = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
LARGE = torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(0))


def build(path):
    require_ops(path)
    return build_model(without_init(resolve_model_cfg(path, 'student')))


LAYERS = ['layer1', 'layer2', 'layer3', 'layer4']
STAGES = ['stages.0', 'stages.1', 'stages.2', 'stages.3']
PRETRAIN, DET = 'mmpretrain::', 'mmdet::'
ZOO = [
    # config, names of the default stages, tap of the last, first parameter of the first
    (PRETRAIN, 'resnet/resnet18_8xb32_in1k.py', LAYERS, 'backbone.layer4', 'conv1.weight'),
    (PRETRAIN, 'resnext/resnext50-32x4d_8xb32_in1k.py', LAYERS, 'backbone.layer4', 'conv1.weight'),
    (PRETRAIN, 'resnet/resnet18_8xb16_cifar10.py', LAYERS, 'backbone.layer4', 'conv1.weight'),
    (
        PRETRAIN,
        'mobilenet_v2/mobilenet-v2_8xb32_in1k.py',
        ['layer2', 'layer3', 'layer5', 'layer7'],
        'backbone',
        'conv1.conv.weight',
    ),
    (PRETRAIN, 'convnext/convnext-tiny_32xb128_in1k.py', STAGES, 'backbone', 'downsample_layers.0.0.weight'),
    (PRETRAIN, 'swin_transformer/swin-tiny_16xb64_in1k.py', STAGES, 'backbone', 'patch_embed.projection.weight'),
    (
        PRETRAIN,
        'efficientnet/efficientnet-b0_8xb32_in1k.py',
        ['layers.2', 'layers.3', 'layers.4', 'layers.5'],
        'backbone',
        'layers.0.conv.weight',
    ),
    (
        PRETRAIN,
        'mobilenet_v3/mobilenet-v3-small_8xb128_in1k.py',
        ['layer1', 'layer3', 'layer8', 'layer11'],
        'backbone',
        'layer0.conv.weight',
    ),
    (
        PRETRAIN,
        'shufflenet_v2/shufflenet-v2-1x_16xb64_in1k.py',
        ['layers.0', 'layers.1', 'layers.2'],
        'backbone',
        'conv1.conv.weight',
    ),
    (DET, 'retinanet/retinanet_r50_fpn_1x_coco.py', LAYERS, 'backbone.layer4', 'conv1.weight'),
    (
        DET,
        'rtmdet/rtmdet_tiny_8xb32-300e_coco.py',
        ['stage1', 'stage2', 'stage3', 'stage4'],
        'backbone.stage4',
        'stem.0.conv.weight',
    ),
    (
        DET,
        'convnext/cascade-mask-rcnn_convnext-t-p4-w7_fpn_4conv1fc-giou_amp-ms-crop-3x_coco.py',
        STAGES,
        'backbone',
        'downsample_layers.0.0.weight',
    ),
    (DET, 'swin/mask-rcnn_swin-t-p4-w7_fpn_1x_coco.py', STAGES, 'backbone', 'patch_embed.projection.weight'),
    (
        DET,
        'ssd/ssdlite_mobilenetv2-scratch_8xb24-600e_coco.py',
        ['layer2', 'layer3', 'layer5', 'layer7'],
        'backbone',
        'conv1.conv.weight',
    ),
]


@pytest.mark.slow
@pytest.mark.parametrize(
    ('package', 'path', 'names', 'last_tap', 'first'), ZOO, ids=[row[1].split('/')[0] + row[0][2:4] for row in ZOO]
)
def test_resolution_stages_of_the_zoo(package, path, names, last_tap, first):
    model = build(package + path)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    flags = [parameter.requires_grad for parameter in model.parameters()]
    state = torch.random.get_rng_state()
    stages = find_stages(model, None, LARGE if 'swin' in path else IMAGE)
    assert [stage.name for stage in stages] == names
    assert stages[-1].tap == last_tap
    assert stages[0].parameters[0] == f'backbone.{first}'
    owned = [name for stage in stages for name in stage.parameters]
    backbone = [f'backbone.{name}' for name, _ in model.backbone.named_parameters()]
    assert sorted(owned) == sorted(backbone)  # each parameter in exactly one stage
    resolutions = [shape[-1] if len(shape) == 3 else shape[0] for shape in (stage.shapes[0] for stage in stages[:-1])]
    assert resolutions == sorted(resolutions, reverse=True)
    # found by looking, not by touching
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert modes == [module.training for module in model.modules()]
    assert flags == [parameter.requires_grad for parameter in model.parameters()]
    assert torch.equal(state, torch.random.get_rng_state())


@pytest.mark.slow
def test_swin_stage_gives_its_tokens_and_its_downsampling_goes_to_the_next_stage():
    model = build('mmpretrain::swin_transformer/swin-tiny_16xb64_in1k.py')
    first, second = find_stages(model, None, LARGE)[:2]
    assert first.shapes == ((3136, 96),)
    assert 'backbone.stages.0.downsample.reduction.weight' in second.parameters
    assert (
        'backbone.stages.0.downsample.norm' in second.modules
        and 'backbone.stages.0.downsample.norm' not in first.modules
    )


@pytest.mark.slow
def test_parameters_that_a_container_holds_go_with_the_module_that_uses_them():
    stages = find_stages(
        build('mmpretrain::vision_transformer/vit-base-p16_64xb64_in1k.py'), ['layers.3', 'layers.11'], LARGE
    )
    assert {'backbone.cls_token', 'backbone.pos_embed'} <= set(stages[0].parameters)
    convnext = find_stages(build('mmpretrain::convnext/convnext-tiny_32xb128_in1k.py'), None, IMAGE)
    assert 'backbone.stages.1.0.gamma' in convnext[1].parameters  # layer scale


def test_what_runs_after_the_last_tap_belongs_to_the_last_stage():
    last = find_stages(build('mmpretrain::mobilenet_v2/mobilenet-v2_8xb32_in1k.py'), None, IMAGE)[-1]
    assert last.tap == 'backbone' and 'backbone.conv2.conv.weight' in last.parameters and last.shapes == ((1280, 2, 2),)


def test_neck_as_a_stage_gives_its_levels():
    model = build('mmdet::retinanet/retinanet_r50_fpn_1x_coco.py')
    stages = find_stages(model, ['layer1', 'layer2', 'layer3', 'layer4', 'neck'], IMAGE)
    assert stages[-1].tap == 'neck' and len(stages[-1].shapes) == 5
    assert set(stages[-1].parameters) == {f'neck.{name}' for name, _ in model.neck.named_parameters()}


def test_activation_checkpointing_does_not_hide_parameters():
    model = build(dict(cfg_path='mmpretrain::resnet/resnet18_8xb32_in1k.py', backbone=dict(with_cp=True)))
    assert [len(stage.parameters) for stage in find_stages(model, None, IMAGE)] == [15, 15, 15, 15]
    assert model.backbone.layer1[0].with_cp


def part(cfg):
    require_ops(cfg)
    return build_model(ConfigDict(cfg))


class Toy(BaseModel):
    """A model with a backbone of one's own, or built from a config."""

    def __init__(self, backbone):
        super().__init__()
        self.backbone = backbone if isinstance(backbone, nn.Module) else part(backbone)

    def extract_feat(self, inputs):
        return self.backbone(inputs)

    def forward(self, inputs, data_samples=None, mode='tensor'):
        return self.extract_feat(inputs)


class Backbone(nn.Sequential):
    def __init__(self, second=None, inplace=False):
        super().__init__()
        self.add_module('one', nn.Sequential(nn.Conv2d(1, 4, 3, 2, 1), nn.BatchNorm2d(4)))
        self.add_module('act', nn.ReLU(inplace=inplace))
        self.add_module('two', second or nn.Sequential(nn.Conv2d(4, 4, 3, 2, 1), nn.BatchNorm2d(4)))


GREY = torch.randn(1, 1, 16, 16, generator=torch.Generator().manual_seed(0))


TINY = dict(embed_dims=8, num_layers=8, num_heads=2, feedforward_channels=16)
PATCHES = (16, 8)
FOUR = ['layers.1', 'layers.3', 'layers.5', 'layers.7']


def vit(kind='VisionTransformer', **changes):
    return dict(dict(type=f'mmpretrain.{kind}', arch=TINY, img_size=32, patch_size=8), **changes)


def hrnet(package):
    kinds = [('BOTTLENECK', (4,)), ('BASIC', (4, 8)), ('BASIC', (4, 8, 16)), ('BASIC', (4, 8, 16, 32))]
    extra = {
        f'stage{i}': dict(num_modules=1, num_branches=i, block=block, num_blocks=(1,) * i, num_channels=widths)
        for i, (block, widths) in enumerate(kinds, 1)
    }
    return dict(type=f'{package}.HRNet', extra=extra)


MAPS = [(4, 16, 16), (8, 8, 8), (16, 4, 4), (32, 2, 2)]
TOKENS_AND_CLASS = [(PATCHES, (1, 8))] * 4
PVT = dict(num_layers=[1] * 4, embed_dims=4, num_heads=[1] * 4)
CUTS = [
    # backbone, size of the image, names of the default stages, tap of the last, shapes of each feature
    (vit(), 32, FOUR, 'backbone.ln1', TOKENS_AND_CLASS),
    (vit(out_indices=[1, 7]), 32, FOUR[::3], 'backbone.ln1', TOKENS_AND_CLASS[:2]),
    (vit(out_indices=[1, 7], out_type='featmap'), 32, FOUR[::3], 'backbone', [(PATCHES, (1, 8)), ((8, 4, 4),)]),
    (vit(with_cls_token=False, out_type='avg_featmap'), 32, FOUR, 'backbone', [(PATCHES,)] * 3 + [((8,),)]),
    (vit('DistilledVisionTransformer'), 32, FOUR, 'backbone.ln1', [(PATCHES, (1, 8), (1, 8))] * 4),
    (vit('BEiTViT', use_abs_pos_emb=False, use_rel_pos_bias=True), 32, FOUR, 'backbone', TOKENS_AND_CLASS[:3] + [((8,),)]),
    (vit('ViTEVA02'), 32, FOUR, 'backbone.ln1', TOKENS_AND_CLASS),
    (
        dict(
            type='mmpretrain.T2T_ViT', img_size=32, embed_dims=8, num_layers=4,
            t2t_cfg=dict(token_dims=4, use_performer=False), layer_cfgs=dict(num_heads=2, feedforward_channels=8),
        ),
        32, [f'encoder.{i}' for i in range(4)], 'backbone.norm', [((4, 8), (1, 8))] * 4,
    ),
    (
        dict(type='mmpretrain.MlpMixer', arch=dict(embed_dims=8, num_layers=3, tokens_mlp_dims=8, channels_mlp_dims=8),
             img_size=32, patch_size=8),
        32, ['layers.0', 'layers.1', 'layers.2'], 'backbone', [(PATCHES,)] * 3,
    ),
    (
        dict(
            type='mmpretrain.EfficientFormer', drop_path_rate=0, mlp_ratios=1,
            arch=dict(layers=[1, 1, 1, 2], embed_dims=[4, 8, 8, 16], downsamples=[False, True, True, True], vit_num=1),
        ),
        224, [f'network.{i}' for i in range(4)], 'backbone', [((4, 56, 56),), ((8, 28, 28),), ((8, 14, 14),), ((49, 16),)],
    ),
    (  # its last norm has but one of the two branches before it
        dict(type='mmpretrain.Conformer', arch=dict(embed_dims=16, channel_ratio=1, num_heads=2, depths=3)), 64,
        ['conv_1', 'conv_trans_3'], 'backbone', [((64, 16, 16),), ((256,), (16,))],
    ),
    *(
        (hrnet(package), 64, ['layer1', 'stage2', 'stage3', 'stage4'], 'backbone.stage4',
         [((16, 16, 16),), tuple(MAPS[:2]), tuple(MAPS[:3]), tuple(MAPS)])
        for package in ('mmpretrain', 'mmdet')
    ),
    (
        dict(type='mmdet.PyramidVisionTransformerV2', **PVT), 64, ['layers.0.2', 'layers.1.2', 'layers.2.2', 'layers.3.1.0'],
        'backbone', [((256, 4),), ((64, 4),), ((16, 4),), ((4, 2, 2),)],
    ),
    (
        dict(type='mmdet.PyramidVisionTransformer', pretrain_img_size=64, **PVT), 64,
        [f'layers.{i}.1.1' for i in range(4)], 'backbone.layers.3.1.1', [((256, 4),), ((64, 4),), ((16, 4),), ((4, 4),)],
    ),
    (
        dict(type='mmdet.SSDVGG', depth=11, out_feature_indices=(14, 24)), 64, ['features.9', 'features.14', 'features.24'],
        'backbone.features.24', [((256, 16, 16),), ((512, 8, 8),), ((1024, 4, 4),)],
    ),
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(
    ('backbone', 'size', 'names', 'last_tap', 'shapes'), CUTS, ids=lambda value: getattr(value, 'type', None)
)
def test_default_cut(backbone, size, names, last_tap, shapes):
    model = Toy(backbone)
    stages = find_stages(model, None, torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(0)))
    assert [stage.name for stage in stages] == names
    assert stages[-1].tap == last_tap
    assert [stage.shapes for stage in stages] == shapes
    owned = [name for stage in stages for name in stage.parameters]
    assert sorted(owned) == sorted(f'backbone.{name}' for name, _ in model.backbone.named_parameters())


@pytest.mark.parametrize(
    ('names', 'message'),
    [
        (['layer1', 'layr2'], r"no module 'layr2'; did you mean 'layer2'\? Candidates: layer2"),
        (
            ['layer2', 'layer1'],
            r"not in the order in which they run; found \['layer2', 'layer1'\], write \['layer1', 'layer2'\]",
        ),
        (['layer1', 'layer1'], 'names a stage twice'),
        (['layer1.0.relu', 'layer2'], "'layer1.0.relu' runs 2 times in a forward"),
        ('layer1', "must be a list of module paths .*, found 'layer1'"),
    ],
)
def test_wrong_names_say_what_is_allowed(names, message):
    model = build_model(ConfigDict(classifier()))
    with pytest.raises(ConfigError, match=message):
        find_stages(model, names, torch.randn(1, 1, 8, 8))


def test_blocks_that_return_parts_of_an_image_beside_its_tokens():
    """TNT: the tokens inside each patch, counted as samples, are no feature. Its blocks change their input in place."""
    arch = dict(embed_dims_outer=8, embed_dims_inner=4, num_layers=4, num_heads_outer=2, num_heads_inner=1)
    model = Toy(dict(type='mmpretrain.TNT', arch=arch, img_size=32, patch_size=8))
    with pytest.raises(ConfigError, match=r"stage 'layers.0' .*differs once the layers after it have run"):
        find_stages(model, None, torch.randn(1, 3, 32, 32))
    (stage,) = find_stages(model, ['layers.3'], torch.randn(1, 3, 32, 32))
    assert stage.tap == 'backbone.norm' and stage.shapes == (PATCHES[:1] + (8,), (1, 8))


def test_layer_that_nothing_depends_on_belongs_to_no_stage():
    """MobileNetV2 of mmdet runs its last convolution for nobody, where a YOLOv3 takes no output of it."""
    model = Toy(dict(type='mmdet.MobileNetV2', widen_factor=0.1, out_indices=(2, 4, 6)))
    last = find_stages(model, None, IMAGE)[-1]
    assert last.idle == ('backbone.conv2.conv.weight', 'backbone.conv2.bn.weight', 'backbone.conv2.bn.bias')
    assert 'backbone.conv2.bn' not in last.modules and not set(last.idle) & set(last.parameters)
    assert find_stages(model, ['layer2', 'layer3', 'layer5', 'conv2'], IMAGE)[-1].idle == ()


class Scores(nn.Module):
    """A backbone that gives scores, as VGG of mmpretrain does."""

    def __init__(self):
        super().__init__()
        self.features, self.fc = Backbone(), nn.Linear(4, 2)

    def forward(self, inputs):
        return self.fc(self.features(inputs).mean((2, 3)))


def test_a_backbone_that_classifies():
    """Its stages end before the classifier, which is the head's, where the head has no weights; layers of features are not."""
    model = Toy(Scores())
    model.head = nn.Identity()
    stages = find_stages(model, ['features.one', 'features.two'], GREY)
    assert [stage.tap for stage in stages] == ['backbone.features.one', 'backbone.features.two']
    assert not any('fc' in name for stage in stages for name in (*stage.parameters, *stage.modules, *stage.idle))
    with pytest.raises(ConfigError, match=r'features\.two.*End the last stage in the layer that uses them'):
        find_stages(model, ['features.one'], GREY)


def test_feature_that_a_later_layer_changes_in_place_is_refused():
    message = (
        r"stage 'one' \(backbone.one\) differs once the layers after it have run.*end the stage in that layer, 'act'\."
    )
    with pytest.raises(ConfigError, match=message):
        find_stages(Toy(Backbone(inplace=True)), ['one', 'two'], GREY)
    assert len(find_stages(Toy(Backbone()), ['one', 'two'], GREY)) == 2


def test_stage_without_parameters_is_refused():
    with pytest.raises(ConfigError, match="stage 'act' has no parameters"):
        find_stages(Toy(Backbone()), ['one', 'act', 'two'], GREY)


@pytest.mark.parametrize(
    ('layer', 'shape', 'message'),
    [
        (None, (3, 16, 16), r'Set model.input_shape to \(1, height, width\): its first layer takes 1 channels'),
        (
            nn.Linear(5, 5),
            (1, 16, 16),
            r'RuntimeError: mat1.*\n.*is set to \(1, 16, 16\).*the mistake is in model.teacher',
        ),
        (nn.Linear(5, 5), (1, 224, 224), r'\n.*is set to'),
    ],
)
def test_input_that_the_model_does_not_take(layer, shape, message):
    """Advice that follows from what is found: the size of the image is not said again where it is set."""
    with pytest.raises(ConfigError, match=rf'does not run on an input of shape \(1, {str(shape)[1:-1]}\): ') as error:
        find_stages(Toy(Backbone(layer)), ['one', 'two'], torch.randn(1, *shape), must_own=False)
    assert re.search(message, str(error.value))


def test_input_shape_that_nobody_set():
    backbone = nn.Sequential(nn.Conv2d(3, 4, 3, 2), nn.Linear(5, 5))
    with pytest.raises(ConfigError, match=r'Set model.input_shape to \(channels, height, width\) of your images'):
        find_stages(Toy(backbone), None, torch.randn(1, 3, 224, 224))


@pytest.mark.parametrize('who', ['student', 'teacher'])
def test_a_forward_without_gradients(who):
    """As frozen networks of other libraries have it: the walk over the graph would find no stage at all."""
    model = build_model(ConfigDict(classifier(depth=8)))
    model.backbone.forward = torch.no_grad()(model.backbone.forward)
    with pytest.raises(ConfigError, match=f'the {who}, ImageClassifier, computes its feature without gradients'):
        find_stages(model, None, torch.zeros(1, 1, 8, 8), must_own=who == 'student')


def test_model_without_backbone():
    with pytest.raises(ConfigError, match='Linear has no `backbone`'):
        find_stages(nn.Linear(1, 1), None, GREY)


EVERY = (0, 1, 2, 3)
CONVNEXT = dict(type='mmpretrain.ConvNeXt', arch=dict(depths=[1] * 4, channels=[4, 8, 16, 32]), out_indices=EVERY)
SIDE_NORMS = [  # backbones that return each stage's feature through a norm of its own, beside the path to the next stage
    dict(type='mmdet.SwinTransformer', embed_dims=8, depths=(1,) * 4, num_heads=(1,) * 4, window_size=4),
    dict(CONVNEXT, gap_before_final_norm=False),
]


@pytest.fixture(scope='module', params=SIDE_NORMS, ids=['SwinTransformer', 'ConvNeXt'])
def side_norms(request):
    """A model whose backbone has side norms, and its stages by default and as named by their blocks."""
    model = Toy(request.param).eval()
    return model, [find_stages(model, names, IMAGE) for names in (None, STAGES)]


def test_side_norm_belongs_to_the_stage_whose_feature_it_normalizes(side_norms):
    model, cuts = side_norms
    assert cuts[0] == cuts[1]
    assert [stage.name for stage in cuts[0]] == STAGES
    assert [stage.tap for stage in cuts[0]] == ['backbone.norm0', 'backbone.norm1', 'backbone.norm2', 'backbone']
    assert [len(stage.levels) for stage in cuts[0]] == [1] * 4
    for k, stage in enumerate(cuts[0]):
        norms = {f'backbone.norm{k}.{name}' for name in ('weight', 'bias')}
        assert {name for name in stage.parameters if name.startswith('backbone.norm')} == norms
        assert [path for path in stage.modules if path.startswith('backbone.norm')] == [f'backbone.norm{k}']
    owned = [name for stage in cuts[0] for name in stage.parameters]
    assert sorted(owned) == sorted(f'backbone.{name}' for name, _ in model.backbone.named_parameters())


def test_feature_after_a_side_norm_is_what_the_neck_sees(side_norms):
    model, (stages, _) = side_norms
    outputs = features_at(model, IMAGE, [stage.tap for stage in stages])
    for stage, seen in zip(stages, model.extract_feat(IMAGE), strict=True):
        (feature,) = stage.feature(outputs)
        if feature.ndim == 3:  # tokens, which the backbone returns as a map
            feature = feature.transpose(1, 2).reshape(seen.shape)
        assert torch.equal(feature, seen)


def test_loss_of_the_last_stage_depends_on_no_other_stages_output(side_norms):
    model, (stages, _) = side_norms
    loss = sum(tensor.square().mean() for tensor in stages[-1].feature(features_at(model, IMAGE, [stages[-1].tap])))
    gradients = torch.autograd.grad(
        loss, [getattr(model.backbone, f'norm{k}').weight for k in EVERY], allow_unused=True
    )
    assert [gradient is not None for gradient in gradients] == [False, False, False, True]


def test_forward_ends_at_a_side_norm(side_norms):
    model, (stages, _) = side_norms
    ran = []
    handles = [
        module.register_forward_hook(lambda m, a, o, name=name: ran.append(name))
        for name, module in model.backbone.named_children()
        if name.startswith('norm')
    ]
    features_at(model, IMAGE, [stages[1].tap])
    for handle in handles:
        handle.remove()
    assert ran == ['norm0', 'norm1']


def test_backbone_that_returns_no_feature_of_its_last_stage():
    """Its side norms were parameters of no stage."""
    model = Toy(dict(CONVNEXT, gap_before_final_norm=False, out_indices=(0, 1, 2)))
    taps = ['backbone.norm0', 'backbone.norm1', 'backbone.norm2', 'backbone.stages.3']
    assert [stage.tap for stage in find_stages(model, None, IMAGE)] == taps


class LateNorms(nn.Module):
    """Runs its norms when all stages have run; with ``fpn`` the first output depends on the second stage too."""

    def __init__(self, fpn=False):
        super().__init__()
        self.one, self.act = Backbone().one, nn.ReLU()
        self.two = Backbone().two
        self.norm1, self.norm2, self.fpn = nn.BatchNorm2d(4), nn.BatchNorm2d(4), fpn

    def forward(self, x):
        one = self.one(x)
        two = self.two(self.act(one))
        outputs = self.norm1(one), self.norm2(two)
        return (outputs[0] + outputs[1].mean((2, 3), keepdim=True), outputs[1]) if self.fpn else outputs


def test_side_norm_that_runs_after_the_next_stage():
    one, two = find_stages(Toy(LateNorms()), ['one', 'two'], GREY)
    assert (one.tap, two.tap, len(two.levels)) == ('backbone.norm1', 'backbone', 1)
    assert 'backbone.norm1' in one.modules and 'backbone.norm1' not in two.modules
    assert 'backbone.act' in two.modules and 'backbone.act' not in one.modules  # as it runs after the first block


def test_norm_of_an_output_that_depends_on_a_later_stage_stays_with_that():
    one, two = find_stages(Toy(LateNorms(fpn=True)), ['one', 'two'], GREY)
    assert one.tap == 'backbone.one' and 'backbone.norm1.weight' in two.parameters


def test_stages_end_before_the_pooling_in_front_of_side_norms_where_the_others_have_places():
    pooled, maps = (Toy(dict(CONVNEXT, gap_before_final_norm=gap)) for gap in (True, False))
    own, theirs, _ = Pairing(input_shape=(3, 64, 64)).pair(pooled, maps)
    assert [own[name].shapes for name in own] == [theirs[name].shapes for name in own]
    assert [stage.tap for stage in own.values()] == [f'backbone.stages.{i}' for i in range(4)]
    own, _, _ = Pairing(input_shape=(3, 64, 64)).pair(pooled, pooled)
    assert own['stages.3'].shapes == ((32,),)


def test_neck_as_a_stage_leaves_the_side_norms_to_the_backbones():
    model = Toy(SIDE_NORMS[1])
    model.neck = part(dict(type='mmdet.FPN', in_channels=[4, 8, 16, 32], out_channels=4, num_outs=4))
    model.extract_feat = lambda inputs: model.neck(model.backbone(inputs))
    stages = find_stages(model, [*STAGES, 'neck'], IMAGE)
    assert [len(stage.levels) for stage in stages] == [1, 1, 1, 1, 4]
    assert [stage.tap for stage in stages[:2]] == ['backbone.norm0', 'backbone.norm1']


def test_last_feature_is_the_last_output_where_a_norm_on_the_path_comes_after_the_block():
    """The norm between the last two blocks is in the last stage, but not the output of the stage before that passes it."""
    model = Toy(dict(type='mmdet.PyramidVisionTransformerV2', **PVT))
    last = find_stages(model, [f'layers.{i}.1.0' for i in range(4)], IMAGE)[-1]
    assert last.shapes == ((4, 2, 2),)
    assert {'backbone.layers.2.2.weight', 'backbone.layers.3.2.weight'} <= set(last.parameters)
