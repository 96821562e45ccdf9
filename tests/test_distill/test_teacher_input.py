"""The teacher sees each batch as its own pipeline makes it: its features equal those of the same model run by itself."""

import copy

import pytest
import torch
from distill_helpers import build, phase
from helpers import classifier, save_weights
from mmengine.model import ImgDataPreprocessor
from mmpretrain.structures import DataSample

from mmsskd.distill.build import build_model, load_strictly, resolve_model_cfg
from mmsskd.distill.network.forward import features_at
from mmsskd.distill.teacher_input import TeacherInput

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
    monkeypatch.setattr('mmsskd.distill.teacher_input.print_log', lambda message, **kwargs: lines.append(message))
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
