"""Stitching of two networks: with its own features a teacher gives what it gave, to the bit; with others something else."""

import pytest
import torch
from detection import STAGES, detector, save_detector
from distill_helpers import build
from helpers import save_weights

from mmsskd.distill.network.forward import feature_tensors
from mmsskd.distill.network.stitch import stitched

TINY = dict(embed_dims=8, num_layers=4, num_heads=2, feedforward_channels=16)
SWIN = dict(embed_dims=4, depths=[1, 1, 1, 1], num_heads=[1, 1, 1, 1])
IMAGES = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
GAP = dict(type='mmpretrain.GlobalAveragePooling')


def classifier(channels, neck=None, head='mmpretrain.LinearClsHead', **backbone):
    head = dict(type=head, num_classes=5, in_channels=channels)
    return dict(type='mmpretrain.ImageClassifier', backbone=backbone, neck=neck, head=head)


VIT = classifier(
    8,
    head='mmpretrain.VisionTransformerClsHead',
    type='mmpretrain.VisionTransformer',
    arch=TINY,
    img_size=32,
    patch_size=8,
)
SWIN = classifier(
    32, GAP, type='mmpretrain.SwinTransformer', arch=SWIN, img_size=32, patch_size=4, window_size=2, pad_small_map=True
)
CONVNEXT = classifier(32, type='mmpretrain.ConvNeXt', arch=dict(depths=[1] * 4, channels=[4, 8, 16, 32]))
RESNET = classifier(32, GAP, type='mmpretrain.ResNet', depth=18, base_channels=4, stem_channels=4)


def distiller(cfg, folder, **options):
    path = save_weights(cfg, folder / 'teacher.pth')
    model = build(path, teacher=cfg, student=cfg, input_shape=(3, 32, 32), init_from_teacher='all', **options)
    model.init_weights()
    return model.eval()


@pytest.mark.parametrize('cfg', [RESNET, VIT, SWIN, CONVNEXT], ids=['ResNet', 'VisionTransformer', 'Swin', 'ConvNeXt'])
def test_own_features_give_the_own_output_and_others_another(cfg, tmp_path):
    model = distiller(cfg, tmp_path)

    def output():
        return torch.cat(feature_tensors(model.teacher.extract_feat(IMAGES)))

    with torch.no_grad():
        expected = output()
        for name in model.stages:
            with stitched(model, [name]) as reasons:
                assert torch.equal(output(), expected)
            assert not reasons
        assert torch.equal(output(), expected)
        next(model.student.backbone.parameters()).normal_()
        for name in model.stages:
            with stitched(model, [name]):
                assert not torch.equal(output(), expected)


def test_an_fpn_gets_the_features_of_all_stages_so_far(tmp_path):
    cfg = detector()
    path = save_detector(cfg, tmp_path / 'detector.pth')
    model = build(
        path, teacher=cfg, student=cfg, input_shape=(3, 64, 64), init_from_teacher='all', stages=STAGES
    ).eval()
    model.init_weights()
    images = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        before = model.teacher.extract_feat(images)
        with stitched(model, STAGES[:2]) as reasons:
            after = model.teacher.extract_feat(images)
        assert not reasons and all(map(torch.equal, before, after))
        for parameter in model.student.backbone.layer2.parameters():
            parameter.zero_()
        with stitched(model, STAGES[:1]):  # layer1 is still that of the teacher
            assert all(map(torch.equal, before, model.teacher.extract_feat(images)))
        with stitched(model, STAGES[:2]):
            assert not torch.equal(before[-1], model.teacher.extract_feat(images)[-1])
        with stitched(model, STAGES):
            assert all(map(torch.equal, model.student.extract_feat(images), model.teacher.extract_feat(images)))


def test_a_feature_beside_the_path_leads_nowhere(tmp_path):
    cfg = dict(CONVNEXT, backbone=dict(CONVNEXT['backbone'], out_indices=(0, 1, 2, 3)))
    model = distiller(cfg, tmp_path)
    names = list(model.stages)
    with stitched(model, names[:1]) as reasons:
        assert 'stands beside the path to its next stage' in reasons[0]
    with stitched(model, names[-1:]) as reasons:
        assert not reasons


def test_the_student_gets_the_image_of_the_run(tmp_path):
    """Not that which a teacher of another normalization gets."""
    student, teacher = (
        dict(RESNET, data_preprocessor=dict(type='mmpretrain.ClsDataPreprocessor', mean=[mean] * 3, std=[50.0] * 3))
        for mean in (0.0, 100.0)
    )
    path = save_weights(teacher, tmp_path / 'teacher.pth')
    model = build(path, teacher=teacher, student=student, input_shape=(3, 32, 32)).eval()
    seen = []
    for network in (model.student, model.teacher):
        network.backbone.conv1.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    with torch.no_grad(), stitched(model, ['layer1']):
        model.teacher.extract_feat(IMAGES)
    assert torch.equal(seen[0], IMAGES) and torch.allclose(seen[1], IMAGES - 2)
