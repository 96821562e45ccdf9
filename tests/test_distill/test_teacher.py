"""Teachers of other libraries: their features equal those of the network run by its own library on its own pipeline."""

import copy
import importlib.util

import numpy as np
import pytest
import torch
from distill_helpers import build, phase
from helpers import classifier, run_cfg, save_weights, train
from mmengine.model import ImgDataPreprocessor
from mmengine.registry import MODELS
from mmpretrain.structures import DataSample
from PIL import Image
from torch import nn
from torchvision.transforms import v2

from mmsskd.distill.build import build_model, build_teacher, load_strictly, resolve_model_cfg
from mmsskd.distill.network.forward import capture, features_at
from mmsskd.distill.teacher import ExternalTeacher, TeacherInput
from mmsskd.errors import ConfigError

RGB = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], to_rgb=True)
HALF = dict(mean=[0.5, 0.5, 0.5], std=[0.5, 0.5, 0.5])
IMAGE = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)  # as PIL reads it: RGB


def needs(library):
    return pytest.mark.skipif(importlib.util.find_spec(library) is None, reason=f'needs {library}')


def student(**preprocessor) -> dict:
    return dict(
        classifier(depth=8, in_channels=3),
        data_preprocessor=dict(type='mmpretrain.ClsDataPreprocessor', **preprocessor),
    )


def distiller(teacher, tmp_path, preprocessor=RGB, **changes):
    """A run whose teacher has random weights, which are saved first."""
    torch.manual_seed(0)
    network = ExternalTeacher(**teacher).backbone
    torch.save(network.state_dict(), tmp_path / 'weights.pth')
    cfg = dict(type='mmsskd.StagewiseDistiller', student=student(**preprocessor), input_shape=(3, 32, 32))
    teacher = dict(teacher, type='mmsskd.ExternalTeacher', pretrained=str(tmp_path / 'weights.pth'))
    return MODELS.build(dict(cfg, teacher=teacher, **changes)), network.eval()


def by_itself(network, size, mean, std, taps):
    """The network as its own documentation runs it: PIL, torchvision's transforms."""
    pipeline = v2.Compose(
        [
            v2.PILToTensor(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Resize(size, antialias=True),
            v2.Normalize(mean, std),
        ]
    )
    with torch.no_grad(), capture(network, taps) as features:
        network(pipeline(Image.fromarray(IMAGE))[None])
    return features


def through_the_run(model, taps):
    """The teacher's features for the image as OpenMMLab's reader gives it, BGR, through the run's own preprocessor."""
    pixels = torch.from_numpy(IMAGE[..., ::-1].copy()).permute(2, 0, 1)
    inputs = model.data_preprocessor(dict(inputs=[pixels]), False)['inputs']
    with torch.no_grad(), capture(model.teacher, [f'backbone.{tap}' for tap in taps]) as features:
        model.teacher.extract_feat(inputs)
    return {path.removeprefix('backbone.'): tensors for path, tensors in features.items()}


NETWORKS = {
    'torchvision': (
        dict(build='torchvision:resnet18', size=64),
        [[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]],
        ['layer1', 'layer4'],
        dict(teacher_stages=['layer2', 'layer3', 'layer4']),
    ),
    'timm': (
        dict(build='timm:vit_tiny_patch16_224', arguments=dict(img_size=64, depth=4, embed_dim=24, num_heads=2), size=64),
        [HALF['mean'], HALF['std']],
        ['blocks.1', 'norm'],
        dict(teacher_stages=['blocks.1', 'blocks.2', 'blocks.3']),
    ),
    'transformers': (
        dict(
            build='transformers:dinov2_with_registers',
            arguments=dict(hidden_size=24, num_hidden_layers=4, num_attention_heads=2, image_size=56, patch_size=14),
            normalize=HALF,
            size=56,
        ),
        [HALF['mean'], HALF['std']],
        ['encoder.layer.1', 'layernorm'],
        dict(teacher_stages=['encoder.layer.1', 'encoder.layer.2', 'encoder.layer.3']),
    ),
}  # fmt: skip


@pytest.mark.parametrize('preprocessor', [RGB, dict(mean=[0] * 3, std=[1] * 3)], ids=['rgb', 'bgr'])
@pytest.mark.parametrize('library', [pytest.param(name, marks=needs(name)) for name in NETWORKS])
def test_features_are_those_of_its_own_library(tmp_path, library, preprocessor):
    teacher, constants, taps, stages = NETWORKS[library]
    teacher = dict(teacher, image_channels='bgr')
    model, network = distiller(teacher, tmp_path, preprocessor, fold_teacher=True, **stages)
    wanted = by_itself(network, [teacher['size']] * 2, *constants, taps)
    found = through_the_run(model, taps)
    for tap in taps:
        torch.testing.assert_close(found[tap], wanted[tap], rtol=1e-4, atol=1e-4)
    images = torch.randn(2, 3, 32, 32)
    assert 'loss_mimic_layer1' in phase(model, train='layer1')(images, mode='loss')
    assert (model.step_teacher(images) is model.teacher) == (library != 'torchvision'), 'it has convolutions and norms'


class Tiny(nn.Sequential):
    """Somebody's own network."""

    def __init__(self, width=4):
        super().__init__(*[nn.Sequential(nn.Conv2d(3 if i == 0 else width, width, 3, 2, 1), nn.ReLU(), nn.Conv2d(width, width, 1))
                           for i in range(3)])  # fmt: skip


def tiny(pretrained=False, width=4):
    network = Tiny(width)
    if pretrained:
        nn.init.ones_(network[0][0].weight)
    return network


def test_a_callable_a_dotted_path_and_a_folder_of_torch_hub(tmp_path):
    (tmp_path / 'hubconf.py').write_text(
        'from torchvision.models import squeezenet1_1\n\n'
        'def small(pretrained=False, classes=3):\n    return squeezenet1_1(num_classes=classes)\n'
    )
    for made_by, kind, arguments in (
        (tiny, 'Tiny', dict(width=6)),
        (Tiny, 'Tiny', None),
        ('torchvision.models.squeezenet1_1', 'SqueezeNet', dict(num_classes=2)),
        (f'torch.hub:{tmp_path}:small', 'SqueezeNet', dict(classes=2)),
    ):
        teacher = ExternalTeacher(made_by, arguments=arguments, normalize=HALF)
        assert type(teacher.backbone).__name__ == kind
    assert ExternalTeacher(tiny, pretrained=True, normalize=HALF).backbone[0][0].weight.mean() == 1


@pytest.mark.slow
def test_a_run_with_a_teacher_that_brings_its_weights(tmp_path):
    """Gray images and a teacher of three channels; its metric is skipped, and so said; the student is exported."""
    teacher = dict(
        type='mmsskd.ExternalTeacher',
        build=f'{__name__}.tiny',
        pretrained=True,
        normalize=dict(mean=[127.5], std=[60]),
        size=16,
    )
    cfg = run_cfg(tmp_path, '', teacher=dict(teacher, image_channels='gray'))
    cfg.model.pop('teacher_checkpoint')
    train(cfg)
    log = next(tmp_path.glob('*/*.log')).read_text()
    assert 'the teacher is not evaluated: ExternalTeacher has no head' in log
    assert (tmp_path / 'student.pth').is_file()


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        (dict(build='tim:vit'), r"model.teacher.build must be 'timm:NAME'.*found 'tim:vit'. did you mean 'timm'\?"),
        (dict(build='torchvision:resnet19'), "'torchvision:resnet19' cannot be built"),
        (dict(build='torch.hub:/nowhere:name'), "'torch.hub:/nowhere:name' cannot be built"),
        (dict(build='torchvision.models.resnet19'), "there is no callable 'torchvision.models.resnet19'; or 'timm:NAME'"),
        (dict(build='pathlib.PurePath'), 'gave PurePosixPath, not an nn.Module'),
        (dict(normalize=None), 'model.teacher.normalize is not set, and nothing says how'),
        (dict(normalize=dict(mean=[0.5], sdt=[0.5])), "model.teacher.normalize: unknown field 'sdt'; did you mean 'std'"),
        (dict(normalize=dict(mean=[0.5] * 3, std=[0.5])), 'as many means as standard deviations'),
        (dict(normalize=dict(mean=[0.5] * 2, std=[0.5] * 2)), 'model.teacher.normalize.mean must be one number or three'),
        (dict(normalize=dict(HALF, channels='rbg')), "normalize.channels must be 'rgb' or 'bgr', found 'rbg'"),
        (dict(normalize=dict(mean=[123.7], std=[0.2])), 'a mean of 123.7 and a std of 0.2, of which one is for images of 0 to 1'),
        (dict(normalize=dict(mean=[0.5], std=[58.0])), 'a mean of 0.5 and a std of 58'),
        (dict(size=(64, 64, 3)), r'model.teacher.size must be pixels.*found \(64, 64, 3\)'),
        (dict(image_channels='rbg'), "model.teacher.image_channels must be 'rgb', 'bgr' or 'gray', found 'rbg'"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_by_its_key(changes, message):
    with pytest.raises(ConfigError, match=message):
        ExternalTeacher(**dict(dict(build=tiny, normalize=HALF), **changes))


def test_a_missing_library_is_named(monkeypatch):
    monkeypatch.setitem(__import__('sys').modules, 'timm', None)
    with pytest.raises(ConfigError, match=r'model.teacher.build needs the package timm: pip install timm'):
        ExternalTeacher('timm:resnet18')


def test_weights_that_nobody_or_two_name(tmp_path):
    teacher = dict(type='mmsskd.ExternalTeacher', build=tiny, normalize=HALF)
    cfg = dict(type='mmsskd.StagewiseDistiller', student=student(**RGB), input_shape=(3, 32, 32))
    with pytest.raises(
        ConfigError, match='teacher_checkpoint is not set; name the file or URL.*or set pretrained=True'
    ):
        MODELS.build(dict(cfg, teacher=teacher))
    torch.save(Tiny().state_dict(), tmp_path / 'tiny.pth')
    with pytest.raises(ConfigError, match='both name weights; remove one'):
        MODELS.build(dict(cfg, teacher=dict(teacher, pretrained=True), teacher_checkpoint=str(tmp_path / 'tiny.pth')))
    with pytest.raises(ConfigError, match=r'model.teacher.pretrained: .*does not fit the ExternalTeacher'):
        MODELS.build(dict(cfg, teacher=dict(teacher, pretrained=str(tmp_path / 'tiny.pth'), arguments=dict(width=5))))


def test_channels_of_the_run_that_nobody_knows():
    """A preprocessor that converts nothing: CIFAR's images are RGB, those of OpenMMLab's readers BGR."""
    teacher = dict(type='mmsskd.ExternalTeacher', build=tiny, pretrained=True, normalize=HALF)
    cfg = dict(type='mmsskd.StagewiseDistiller', student=student(), input_shape=(3, 32, 32))
    with pytest.raises(
        ConfigError, match="model.teacher.image_channels is not set.*'bgr' for what OpenMMLab's readers give"
    ):
        MODELS.build(dict(cfg, teacher=teacher))
    reverses = [
        MODELS.build(dict(cfg, teacher=dict(teacher, image_channels=order))).teacher.own_input.reverse
        for order in ('bgr', 'rgb')
    ]
    assert reverses == [True, False]


def test_weights_of_the_model_zoo(monkeypatch):
    """``pretrained=True`` beside a path of OpenMMLab: the address that its metafile names. False takes back what a config says."""
    from mmsskd.distill.build import resolve_model_cfg, teacher_weights

    spec = dict(cfg_path='mmpretrain::resnet/resnet18_8xb32_in1k.py', pretrained=True)
    path, key = teacher_weights(spec, resolve_model_cfg(spec, 'teacher'), None)
    assert path.endswith('resnet18_8xb32_in1k_20210831-fbbb1da6.pth') and key == 'model.teacher.pretrained'
    with pytest.raises(ConfigError, match='no model zoo names weights for'):
        teacher_weights(dict(spec, cfg_path='mmpretrain::_base_/models/resnet18.py'), spec, None)
    off = dict(spec, pretrained=False)  # on the command line, beside a checkpoint of one's own
    cfg = resolve_model_cfg(off, 'teacher')
    assert 'pretrained' not in cfg and teacher_weights(off, cfg, 'own.pth') == ('own.pth', 'model.teacher_checkpoint')


# -- a batch of the run as the teacher's own pipeline makes it ---------------------------------------------------------


IMAGENET = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375])
ZERO_TO_ONE = dict(mean=[0, 0, 0], std=[255.0, 255.0, 255.0])
CAFFE = dict(mean=[103.53, 116.28, 123.675], std=[1.0, 1.0, 1.0])
RAW = dict(pad_value=114)


def colour(**preprocessor) -> dict:
    return dict(
        classifier(in_channels=3), data_preprocessor=dict(type='mmpretrain.ClsDataPreprocessor', **preprocessor)
    )


def batch(sizes=((8, 8), (6, 7), (5, 8))) -> dict:
    """Images as a loader gives them, of several sizes, some of their last rows black; and samples that know the sizes."""
    generator = torch.Generator().manual_seed(0)
    images = [torch.randint(0, 256, (3, *size), generator=generator, dtype=torch.uint8) for size in sizes]
    images[1][:, -2:] = 0
    return dict(inputs=images, data_samples=[DataSample(metainfo=dict(img_shape=size)) for size in sizes])


@pytest.mark.parametrize(
    ('own', 'run'),
    [
        (dict(ZERO_TO_ONE, to_rgb=True), dict(IMAGENET, to_rgb=True)),  # YOLOv3: Darknet-53 and MobileNetV2
        (dict(IMAGENET, to_rgb=True), dict(ZERO_TO_ONE, to_rgb=True)),
        (dict(CAFFE), dict(IMAGENET, to_rgb=True)),
        (dict(IMAGENET, to_rgb=True), dict(CAFFE)),
        (dict(RAW), dict(IMAGENET, to_rgb=True)),
        (dict(IMAGENET, to_rgb=True), dict(RAW)),
        (dict(mean=[127.5], std=[127.5]), dict(IMAGENET)),
    ],
)
def test_features_are_those_of_its_own_pipeline(tmp_path, own, run):
    """Normalization, order of channels, and what stands beside the smaller images of a batch."""
    spec = colour(**own)
    path = save_weights(spec, tmp_path / 'teacher.pth')
    model = phase(build(path, teacher=spec, student=colour(**run), input_shape=(3, 8, 8)), train='layer1')
    alone = build_model(resolve_model_cfg(spec, 'teacher')).eval()
    load_strictly(alone, path, 'path')
    theirs = alone.data_preprocessor(copy.deepcopy(batch()), True)
    ours = model.data_preprocessor(batch(), True)
    taps = ['backbone.layer1', 'backbone.layer3']
    wanted, found = features_at(alone, theirs['inputs'], taps), features_at(model.teacher, ours['inputs'], taps)
    for tap in taps:
        torch.testing.assert_close(found[tap], wanted[tap], rtol=1e-4, atol=1e-4)
    assert set(model(**ours, mode='loss')) == {'loss_mimic_layer1', 'relative_error_layer1', 'cosine_layer1'}
    with model.predicting_with_teacher():
        assert torch.allclose(model(**ours, mode='tensor')[0], alone(**theirs, mode='tensor')[0], atol=1e-4)
    assert not [name for name in model.state_dict() if 'own_input' in name]


def test_equal_pipelines_leave_the_batch_alone(teacher_path):
    model = build(teacher_path)
    assert not hasattr(model.teacher, 'own_input') and not model.teacher.backbone._forward_pre_hooks
    student = dict(classifier(depth=8), data_preprocessor=dict(type='mmpretrain.ClsDataPreprocessor'))
    own = {key: value for key, value in classifier().items() if key != 'data_preprocessor'}
    assert not hasattr(
        build(teacher_path, teacher=own, student=student).teacher, 'own_input'
    )  # expects what the student gets


def test_what_is_done_is_said_once(tmp_path, monkeypatch):
    lines = []
    monkeypatch.setattr('mmsskd.distill.teacher.print_log', lambda message, **kwargs: lines.append(message))
    spec = colour(**CAFFE, pad_size_divisor=32)
    path = save_weights(spec, tmp_path / 'teacher.pth')
    build(path, teacher=spec, student=colour(**RAW, to_rgb=True), input_shape=(3, 8, 8))
    (line,) = lines
    for part in (
        'mean 103.53/116.28/123.675 and std 1/1/1 in place of mean 0 and std 1',
        'channels reversed',
        '0 in what is padded, where data samples have',
    ):
        assert part in line
    assert 'padded to multiples of 1, its own pipeline pads to multiples of 32' in line


def test_padding_is_known_for_the_batch_at_hand_alone():
    """Another tensor than the one that the preprocessor gave has no samples: nothing of it is taken for padding."""
    run = ImgDataPreprocessor(**ZERO_TO_ONE)
    see = TeacherInput(run, ImgDataPreprocessor(**IMAGENET))
    images = run(batch())['inputs']
    assert see(images)[1, :, 7].abs().max() == 0  # padded
    assert see(images)[1, :, 5, :7].abs().min() > 1  # black, but part of the image
    assert see(images.clone())[1, :, 7].abs().min() > 1


# -- a teacher with features and no predictions: without a head, or self-supervised ------------------------------------


HEADLESS = dict(classifier(), head=None)
SIMCLR = dict(
    type='mmpretrain.SimCLR',
    data_preprocessor=dict(type='mmpretrain.SelfSupDataPreprocessor', mean=[127.5], std=[127.5]),
    backbone=classifier()['backbone'],
    neck=dict(type='mmpretrain.NonLinearNeck', in_channels=32, hid_channels=8, out_channels=4, num_layers=2),
    head=dict(type='mmpretrain.ContrastiveHead', loss=dict(type='mmpretrain.CrossEntropyLoss'), temperature=0.1),
)
TEACHERS = {'ImageClassifier has no head': HEADLESS, 'SimCLR is self-supervised': SIMCLR}


@pytest.mark.slow
@pytest.mark.parametrize('reason', TEACHERS)
def test_it_teaches_and_is_not_measured_which_is_said_once(tmp_path, reason):
    teacher = TEACHERS[reason]
    path = save_weights(teacher, tmp_path / 'teacher.pth')
    runner = train(run_cfg(tmp_path / 'run', path, teacher=teacher))
    log = next((tmp_path / 'run').glob('*/*.log')).read_text()
    assert log.count('WARNING - the teacher is not evaluated') == 1
    assert f'the teacher is not evaluated: {reason}, it has features but no predictions; its features serve' in log
    assert 'teacher_metrics' not in runner.message_hub.runtime_info
    assert runner.message_hub.get_scalar('val/accuracy/top1').current() > 0
    assert (tmp_path / 'run/student.pth').is_file()


@pytest.mark.parametrize('reason', TEACHERS)
@pytest.mark.parametrize('option', [dict(logits='head.fc'), dict(init_from_teacher='head')])
def test_what_needs_its_head_is_refused(tmp_path, reason, option):
    path = save_weights(TEACHERS[reason], tmp_path / 'teacher.pth')
    (key,) = option
    with pytest.raises(ConfigError, match=f'^model.{key}=.*the teacher has neither head nor logits to give: {reason}'):
        build(path, teacher=TEACHERS[reason], **option)


@pytest.mark.parametrize('reason', TEACHERS)
def test_a_projector_needs_its_head(tmp_path, reason):
    path = save_weights(TEACHERS[reason], tmp_path / 'teacher.pth')
    with pytest.raises(ConfigError, match=f"^model.projector: the teacher's head follows it, but {reason}"):
        build(path, teacher=TEACHERS[reason], projector=dict(type='mmsskd.BottleneckProjector'))


def test_it_may_be_in_a_config_with_a_preprocessor_of_its_students(tmp_path):
    """That of a run is for the student's images; it makes its own."""
    path = tmp_path / 'teacher.py'
    teacher = dict(type='mmsskd.ExternalTeacher', build=f'{__name__}.tiny', normalize=HALF)
    path.write_text(f'model = {teacher}\ndata_preprocessor = dict(mean=[1.0], std=[2.0], to_rgb=True)\n')
    built = MODELS.build(resolve_model_cfg(dict(cfg_path=str(path)), 'teacher'))
    assert built.data_preprocessor.mean.flatten().tolist() == [127.5] * 3


@pytest.mark.parametrize(
    ('mean', 'std', 'pixels'),
    [
        ([103.53, 116.28, 123.675], [1.0, 1.0, 1.0], ([103.53, 116.28, 123.675], [1.0] * 3)),  # Caffe's
        ([0.0], [255.0], ([0.0], [255.0])),
        ([0.0], [1.0], ([0.0], [255.0])),
    ],
)
def test_normalization_is_for_the_images_that_it_fits(mean, std, pixels):
    preprocessor = ExternalTeacher(tiny, normalize=dict(mean=mean, std=std)).data_preprocessor
    found = preprocessor.mean.flatten().tolist(), preprocessor.std.flatten().tolist()
    assert all(each[: len(want)] == pytest.approx(want) for each, want in zip(found, pixels))


def test_a_slip_shows_before_weights_are_fetched():
    with pytest.raises(ConfigError, match=r"model.teacher.size must be pixels.*found 'big'"):
        ExternalTeacher('torchvision:resnet19', size='big')


class Stubborn(Tiny):
    def train(self, mode=True):
        return super().train(True)


def test_a_teacher_that_stays_in_training_mode(tmp_path):
    """Its normalization would follow the batches of the run, and its features with it."""
    torch.save(Stubborn().state_dict(), tmp_path / 'stubborn.pth')
    spec = dict(type='mmsskd.ExternalTeacher', build=f'{__name__}.Stubborn', normalize=HALF)
    with pytest.raises(ConfigError, match='model.teacher: backbone stays in training mode after eval()'):
        build_teacher(spec, str(tmp_path / 'stubborn.pth'))
