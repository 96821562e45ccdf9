"""IResNet, MobileFaceNet, their necks and FaceRecognizer, against arcface_torch's names and arithmetic written out by hand."""

import pytest
import torch
from arcface_helpers import (
    iresnet_forward,
    iresnet_table,
    mobilefacenet_forward,
    mobilefacenet_table,
    random_state,
)
from mmengine.optim import OptimWrapper
from mmengine.registry import MODELS, DefaultScope
from mmpretrain.datasets.transforms import PackInputs
from mmpretrain.structures import DataSample

from mmsskd.distill.build import load_strictly
from mmsskd.distill.network.pairing import Pairing
from mmsskd.distill.network.stages import find_stages
from mmsskd.errors import ConfigError
from mmsskd.face.models import FaceEmbedNeck, FaceGDCNeck, FaceRecognizer, IResNet, MarginClsHead, MobileFaceNet

WIDTH = 8  # channels of the first stage
PREPROCESSOR = dict(mean=[127.5] * 3, std=[127.5] * 3, to_rgb=True)


def ir_recognizer(depth=18, size=32, people=None, **fields) -> FaceRecognizer:
    return FaceRecognizer(
        backbone=dict(type='mmsskd.IResNet', depth=depth, base_channels=WIDTH),
        neck=dict(type='mmsskd.FaceEmbedNeck', in_channels=8 * WIDTH, feature_size=size // 16, num_features=32),
        head=None if people is None else dict(type='mmsskd.MarginClsHead', num_classes=people, in_channels=32),
        data_preprocessor=PREPROCESSOR,
        **fields,
    )


def small_state(seed=0, size=32):
    return random_state(iresnet_table(18, WIDTH, 32, size // 16), seed)


def trained(model, seed=0):
    """The model with weights as training might leave them."""
    model.load_state_dict(model.adopt_state_dict(small_state(seed)), strict=False)
    return model


def packed(count=4, size=32, seed=0, labels=True) -> dict:
    """A batch as a data loader gives it: BGR images of 0 to 255 and data samples of mmpretrain's PackInputs."""
    generator = torch.Generator().manual_seed(seed)
    pictures = torch.randint(0, 256, (count, size, size, 3), generator=generator, dtype=torch.uint8).numpy()
    records = [dict(img=picture, img_path=f'{k}.jpg') for k, picture in enumerate(pictures)]
    if labels:
        records = [dict(record, gt_label=k % 4) for k, record in enumerate(records)]
    items = [PackInputs()(record) for record in records]
    return dict(inputs=[item['inputs'] for item in items], data_samples=[item['data_samples'] for item in items])


def shapes(state):
    return {name: tuple(value.shape) for name, value in state.items()}


# -- names, shapes, arithmetic -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(('depth', 'millions'), [(18, 24.03), (34, 34.14), (50, 43.59), (100, 65.16)])
def test_iresnet_has_the_names_and_shapes_of_arcface_torch(depth, millions):
    with torch.device('meta'):
        whole, backbone, neck = IResNet(depth, num_features=512), IResNet(depth), FaceEmbedNeck()
    assert shapes(whole.state_dict()) == iresnet_table(depth)
    assert shapes({**backbone.state_dict(), **neck.state_dict()}) == iresnet_table(depth)
    assert round(sum(parameter.numel() for parameter in whole.parameters()) / 1e6, 2) == millions


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


def test_mobilefacenet_names_wrong_blocks():
    with pytest.raises(ConfigError, match=r'blocks must be four numbers of at least 1, found \(1, 4, 6\)'):
        MobileFaceNet(blocks=(1, 4, 6))


# -- necks ---------------------------------------------------------------------------------------------------------------


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
def test_necks_work_behind_other_backbones(kind, backbone, channels, size):
    neck = dict(type=f'mmsskd.{kind}', in_channels=channels, feature_size=size, num_features=16)
    assert FaceRecognizer(backbone, neck).eval()(torch.randn(2, 3, 32, 32)).shape == (2, 16)


@pytest.mark.parametrize('kind', [FaceEmbedNeck, FaceGDCNeck])
def test_the_embedding_keeps_full_precision_within_autocast(kind):
    neck = kind(8, 2, 16).eval()
    with torch.autocast('cpu', dtype=torch.bfloat16):
        assert neck(torch.randn(3, 8, 2, 2).bfloat16()).dtype == torch.float32
    half = neck.to(torch.bfloat16)
    assert half(torch.randn(3, 8, 2, 2).bfloat16()).dtype == torch.bfloat16


# -- stages --------------------------------------------------------------------------------------------------------------


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


@pytest.mark.parametrize(('place', 'extra', 'head'), [('backbone', ['neck'], 1), ('head', [], 7)])
def test_embedding_in_says_what_is_a_stage_and_what_the_head(place, extra, head, tmp_path):
    path = tmp_path / 'teacher.pth'
    torch.save(trained(ir_recognizer(people=4)).state_dict(), path)
    network = dict(
        type='mmsskd.FaceRecognizer',
        backbone=dict(type='mmsskd.IResNet', depth=18, base_channels=WIDTH),
        neck=dict(type='mmsskd.FaceEmbedNeck', in_channels=8 * WIDTH, feature_size=2, num_features=32),
        head=dict(type='mmsskd.MarginClsHead', num_classes=4, in_channels=32),
        embedding_in=place,
    )
    fields = dict(teacher=network, student=network, teacher_checkpoint=str(path), input_shape=(3, 32, 32))
    distiller = MODELS.build(dict(type='mmsskd.StagewiseDistiller', **fields))
    assert list(distiller.stages) == ['layer1', 'layer2', 'layer3', 'layer4', *extra]
    assert len(distiller.parameters_of('head')) == head and 'head.weight' in distiller.parameters_of('head')


# -- the recogniser ------------------------------------------------------------------------------------------------------


def test_predict_embeds_faces_with_and_without_labels():
    model = trained(ir_recognizer(test_cfg=dict(flip=True))).eval()
    for labels in (True, False):
        batch = model.data_preprocessor(packed(labels=labels))
        samples = model(**batch, mode='predict')
        assert [sample.img_path for sample in samples] == [f'{k}.jpg' for k in range(4)]
        rgb = torch.stack(packed()['inputs'])[:, [2, 1, 0]].float() / 127.5 - 1
        _, expected = iresnet_forward(small_state(), 18, rgb)
        _, mirrored = iresnet_forward(small_state(), 18, rgb.flip(3))
        for sample, embedding, flipped in zip(samples, expected, mirrored, strict=True):
            assert sample.embedding.shape == (32,) and sample.embedding.dtype == torch.float32
            torch.testing.assert_close(sample.embedding, embedding, rtol=1e-4, atol=1e-4)
            torch.testing.assert_close(sample.embedding_flip, flipped, rtol=1e-4, atol=1e-4)


def test_without_flip_there_is_one_embedding():
    model = ir_recognizer()
    sample, *_ = model.predict(torch.randn(4, 3, 32, 32))
    assert 'embedding' in sample and 'embedding_flip' not in sample
    assert sample.embedding.untyped_storage().nbytes() == 32 * 4


def test_an_embedding_does_not_depend_on_the_batch_and_flips_agree():
    model = trained(ir_recognizer(test_cfg=dict(flip=True)))
    images = torch.randn(5, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    together = model.predict(images)
    for k, sample in enumerate(together):
        (alone,) = model.predict(images[k : k + 1])
        (mirrored,) = model.predict(images[k : k + 1].flip(-1))
        torch.testing.assert_close(sample.embedding, alone.embedding, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(mirrored.embedding, alone.embedding_flip)
        torch.testing.assert_close(mirrored.embedding_flip, alone.embedding)
    assert not torch.allclose(together[0].embedding, together[0].embedding_flip, atol=1e-2)


def test_predict_is_in_eval_mode_and_leaves_the_model_as_it_was():
    model = trained(ir_recognizer())
    model.train()
    model.backbone.layer1.eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    images = torch.randn(3, 3, 32, 32)
    found = model.predict(images)
    assert model.training and model.neck.training and not model.backbone.layer1[0].bn1.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    model.eval()
    assert torch.equal(found[1].embedding, model(images)[1].detach())


def test_a_few_steps_of_training_lower_the_loss_and_tell_people_apart():
    torch.manual_seed(0)
    model = FaceRecognizer(
        dict(type='mmsskd.IResNet', depth=18, base_channels=WIDTH),
        dict(type='mmsskd.FaceEmbedNeck', in_channels=8 * WIDTH, feature_size=2, num_features=32),
        dict(type='mmsskd.MarginClsHead', num_classes=4, in_channels=32, s=16.0),
        data_preprocessor=PREPROCESSOR,
    )
    model.init_weights()
    wrapper = OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9), clip_grad=dict(max_norm=5.0))
    batch = packed(16)
    batch['inputs'] = [batch['inputs'][k % 4] // 2 + batch['inputs'][k] // 4 for k in range(16)]  # faces of four people
    losses = [model.train_step(batch, wrapper)['loss'].item() for _ in range(15)]
    assert losses[-1] < 0.5 * losses[0]
    vectors = torch.stack([sample.embedding for sample in model.predict(model.data_preprocessor(batch)['inputs'])])
    cosines = torch.nn.functional.normalize(vectors) @ torch.nn.functional.normalize(vectors).t()
    same = torch.arange(16)[:, None] % 4 == torch.arange(16) % 4
    assert cosines[same].min() > cosines[~same].max()


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


def test_a_mobilefacenet_of_insightface_loads_strictly(tmp_path):
    path = tmp_path / 'backbone.pth'
    torch.save(random_state(mobilefacenet_table(1)), path)
    model = FaceRecognizer(dict(type='mmsskd.MobileFaceNet', scale=1), dict(type='mmsskd.FaceGDCNeck'))
    load_strictly(model, str(path), 'checkpoint')
    assert torch.equal(
        model.neck.features.layers[2].weight, random_state(mobilefacenet_table(1))['features.layers.2.weight']
    )


def test_a_state_of_our_own_names_is_left_alone():
    model = ir_recognizer(people=4)
    state = model.state_dict()
    assert model.adopt_state_dict(state) is state
    torchvision = {'conv1.weight': torch.zeros(1), 'fc.weight': torch.zeros(1)}
    assert model.adopt_state_dict(torchvision) is torchvision


def test_a_backbone_of_another_depth_is_refused_with_names(tmp_path):
    path = tmp_path / 'backbone.pth'
    torch.save(small_state(), path)
    with pytest.raises(ConfigError, match=r'missing \(\d+\): backbone.layer1.2.bn1.weight'):
        load_strictly(ir_recognizer(depth=34), str(path), 'checkpoint')


@pytest.mark.parametrize('scope', ['mmpretrain', 'mmsskd'])
def test_configs_build_under_either_scope(scope):
    prefix = '' if scope == 'mmsskd' else 'mmsskd.'
    cfg = dict(
        type='mmsskd.FaceRecognizer',
        backbone=dict(type=f'{prefix}IResNet', depth=18, base_channels=WIDTH),
        neck=dict(type=f'{prefix}FaceEmbedNeck', in_channels=8 * WIDTH, num_features=32),
        head=dict(type=f'{prefix}MarginClsHead', num_classes=4, in_channels=32),
        data_preprocessor=PREPROCESSOR,
    )
    with DefaultScope.overwrite_default_scope(scope):
        assert isinstance(MODELS.build(cfg).head, MarginClsHead)


@pytest.mark.parametrize(
    ('wrong', 'message'),
    [
        (dict(embedding_in='bakbone'), "model.embedding_in: found 'bakbone'; did you mean 'backbone'"),
        (dict(neck=None), 'model.neck is missing'),
        (dict(test_cfg=dict(fliip=True)), "model.test_cfg has no field 'fliip'; did you mean 'flip'"),
    ],
)
def test_a_wrong_field_is_named(wrong, message):
    fields = dict(
        backbone=dict(type='mmsskd.IResNet', depth=18, base_channels=4), neck=dict(type='mmsskd.FaceEmbedNeck')
    )
    with pytest.raises(ConfigError, match=message):
        FaceRecognizer(**{**fields, **wrong})


def test_a_loss_without_a_head_says_which_key_is_missing():
    with pytest.raises(ConfigError, match=r'model.head is not set'):
        ir_recognizer()(torch.randn(2, 3, 32, 32), [DataSample().set_gt_label(0)] * 2, mode='loss')
