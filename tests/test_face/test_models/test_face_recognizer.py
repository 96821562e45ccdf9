"""FaceRecognizer: embeddings of faces, the same alone and in a batch, and the stages of a face network."""

import pytest
import torch
from arcface_helpers import (
    iresnet_forward,
)
from face_models import PREPROCESSOR, WIDTH, ir_recognizer, packed, small_state
from mmengine.optim import OptimWrapper
from mmengine.registry import MODELS, DefaultScope
from mmpretrain.structures import DataSample

from mmsskd.errors import ConfigError
from mmsskd.face.models import FaceRecognizer, MarginClsHead


def trained(model, seed=0):
    """The model with weights as training might leave them."""
    model.load_state_dict(model.adopt_state_dict(small_state(seed)), strict=False)
    return model


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


def test_a_state_of_our_own_names_is_left_alone():
    model = ir_recognizer(people=4)
    state = model.state_dict()
    assert model.adopt_state_dict(state) is state
    torchvision = {'conv1.weight': torch.zeros(1), 'fc.weight': torch.zeros(1)}
    assert model.adopt_state_dict(torchvision) is torchvision


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
