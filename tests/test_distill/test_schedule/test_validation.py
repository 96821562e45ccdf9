"""Student and teacher stitched: the student's stages so far, and after them the rest of the teacher, as one network."""

import json

import pytest
import torch
from detection import STAGES as DETECTOR_STAGES
from detection import detection_cfg, detector, save_detector
from distill_helpers import build
from face import face_run, recognizer, save_recognizer, write_face_sets
from helpers import classifier, run_cfg, save_weights, train
from mmengine.runner import Runner

from mmsskd.distill.network.forward import feature_tensors
from mmsskd.distill.schedule.runner_state import unwrap
from mmsskd.distill.schedule.validation import evaluate_teacher, stitched, validate_features

STAGES = ('layer1', 'layer2', 'layer3')
SMALLER = dict(
    classifier(),
    backbone=dict(
        type='ResNet_CIFAR',
        depth=18,
        base_channels=8,
        stem_channels=8,
        in_channels=1,
        num_stages=3,
        strides=(2, 2, 2),
        dilations=(1, 1, 1),
        out_indices=(2,),
    ),
)


@pytest.fixture(scope='module')
def teacher_that_knows(tmp_path_factory):
    """Trained a little: what random weights predict is the same for all images."""
    folder = tmp_path_factory.mktemp('teacher')
    cfg = run_cfg(folder, None)
    cfg.merge_from_dict(
        dict(model=dict(cfg.model.teacher, _delete_=True), train_cfg=dict(max_epochs=8, val_interval=20))
    )
    cfg.train_dataloader.dataset.indices = 400
    cfg.default_hooks.pop('stage_schedule')
    cfg.default_hooks.checkpoint.interval = 8
    cfg.default_hooks.logger.interval = 100
    train(cfg)
    return str(folder / 'epoch_8.pth')


def shown(folder) -> set[str]:
    """Names of the stitched metrics in the scalars of a run."""
    lines = next(folder.glob('*/vis_data/scalars.json')).read_text().splitlines()
    return {name for line in lines for name in json.loads(line) if 'stitched' in name}


def distiller_of(cfg):
    """A run that has loaded its weights and trains nothing."""
    runner = Runner.from_cfg(cfg)
    model = unwrap(runner.model)
    model.init_weights()
    runner.val_loop  # noqa: B018  built on first use
    return runner, model


@pytest.mark.parametrize('stages', [STAGES[:1], STAGES[:2], STAGES])
def test_the_own_features_of_the_teacher_give_its_own_metric(tmp_path, teacher_that_knows, stages):
    cfg = run_cfg(tmp_path, teacher_that_knows, student=classifier(), **{'model.init_from_teacher': 'all'})
    cfg.val_evaluator = [dict(type='Accuracy', topk=(1,)), dict(type='SingleLabelMetric')]
    runner, model = distiller_of(cfg)
    teacher = evaluate_teacher(runner, model)
    values = validate_features(runner, model, stages, stages)
    assert values[f'val/relative_error_{stages[-1]}'] == pytest.approx(0, abs=1e-9)
    assert {key for key in values if 'stitched' in key} == {
        f'val/stitched_{name}_{stages[-1]}' for name in ('top1', 'precision', 'recall', 'f1-score')
    }
    assert values[f'val/stitched_top1_{stages[-1]}'] == teacher['accuracy/top1']
    assert values[f'val/stitched_f1-score_{stages[-1]}'] == teacher['single-label/f1-score']
    assert 'measured' not in runner.message_hub.runtime_info


def test_untrained_features_give_another_one_through_adapter_and_projector(tmp_path, teacher_that_knows):
    cfg = run_cfg(tmp_path, teacher_that_knows, student=classifier(depth=8, width=0.25))
    cfg.val_dataloader.dataset.indices = 200
    cfg.model.projector = dict(type='mmsskd.BottleneckProjector')
    runner, model = distiller_of(cfg)
    teacher = evaluate_teacher(runner, model)['accuracy/top1']
    assert teacher > 50
    found = {
        stage: validate_features(runner, model, (stage,), (stage,))[f'val/stitched_top1_{stage}'] for stage in STAGES
    }
    assert teacher not in found.values()
    data = model.data_preprocessor(next(iter(runner.val_dataloader)), False)
    model.eval()
    with torch.no_grad():  # by hand: one stage, its adapter, the teacher's rest
        feature, _ = model.compare(data['inputs'], ['layer1'])['layer1']
        rest = model.teacher.backbone.layer3(model.teacher.backbone.layer2(feature[0]))
        expected = model.teacher.head.fc(rest.mean((2, 3))).argmax(1)
    with stitched(model, ['layer1']) as reasons, torch.no_grad():
        outputs = model.teacher(**data, mode='predict')
    assert not reasons and [sample.pred_label.item() for sample in outputs] == expected.tolist()


@pytest.mark.slow
def test_a_run_shows_it_until_the_student_itself_predicts(tmp_path, teacher_path):
    train(run_cfg(tmp_path / 'on', teacher_path))
    assert shown(tmp_path / 'on') == {f'val/stitched_top1_{stage}' for stage in STAGES}
    train(run_cfg(tmp_path / 'off', teacher_path, hook=dict(stitched=False)))
    assert not shown(tmp_path / 'off')


def test_with_the_head_of_the_teacher_the_last_stage_is_validated_as_it_is(tmp_path, teacher_path):
    train(run_cfg(tmp_path, teacher_path, **{'model.init_from_teacher': 'head'}))
    assert shown(tmp_path) == {f'val/stitched_top1_{stage}' for stage in STAGES[:2]}


def test_a_teacher_without_predictions_has_none(tmp_path):
    teacher = dict(classifier(), head=None)
    cfg = run_cfg(tmp_path, save_weights(teacher, tmp_path / 'teacher.pth'), teacher=teacher)
    runner, model = distiller_of(cfg)
    assert set(validate_features(runner, model, STAGES[:1], STAGES[:1])) == {
        'val/relative_error_layer1', 'val/cosine_layer1',
    }  # fmt: skip


def test_smaller_maps_do_not_fit_which_is_said(tmp_path, teacher_path, caplog):
    cfg = run_cfg(tmp_path, teacher_path, student=SMALLER, **{'model.resize': True})
    runner, model = distiller_of(cfg)
    runner.logger.addHandler(caplog.handler)
    assert not any('stitched' in key for key in validate_features(runner, model, STAGES[:1], STAGES[:1]))
    said = "no stitched metric of stage 'layer1': the feature of the student is smaller than that of the teacher"
    assert said in caplog.text


@pytest.mark.parametrize('last', [2, 5])
def test_ap_of_a_detector(tmp_path, photos, detection_teacher, last):
    cfg = detection_cfg(tmp_path, photos, detection_teacher, student=detector(), **{'model.init_from_teacher': 'all'})
    runner, model = distiller_of(cfg)
    learned = tuple(model.stages)[:last]
    teacher = evaluate_teacher(runner, model)
    values = validate_features(runner, model, learned[-1:], learned)
    own = {key.removeprefix('coco/'): value for key, value in teacher.items()}
    assert own and {f'val/stitched_{key}_{learned[-1]}': value for key, value in own.items()}.items() <= values.items()


def test_faces_by_their_own_metric(tmp_path):
    """With ``flip=True`` the teacher also looks at the mirrored crop, and so must the student."""
    root = write_face_sets(tmp_path / 'sets')
    models = recognizer(), recognizer()
    path = save_recognizer(models[0], tmp_path / 'teacher.pth')
    cfg = face_run(tmp_path / 'run', root, path, models=models, **{'model.init_from_teacher': 'all'})
    runner, model = distiller_of(cfg)
    teacher = evaluate_teacher(runner, model)
    values = validate_features(runner, model, ('layer2',), ('layer1', 'layer2'))
    found = [value for key, value in values.items() if key.startswith('val/stitched_')]
    assert teacher and found == list(teacher.values())


# -- two networks: with its own features a teacher gives what it gave, to the bit --------------------------------------


TINY = dict(embed_dims=8, num_layers=4, num_heads=2, feedforward_channels=16)
SWIN = dict(embed_dims=4, depths=[1, 1, 1, 1], num_heads=[1, 1, 1, 1])
IMAGES = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
GAP = dict(type='mmpretrain.GlobalAveragePooling')


def network(channels, neck=None, head='mmpretrain.LinearClsHead', **backbone):
    head = dict(type=head, num_classes=5, in_channels=channels)
    return dict(type='mmpretrain.ImageClassifier', backbone=backbone, neck=neck, head=head)


VIT = network(
    8,
    head='mmpretrain.VisionTransformerClsHead',
    type='mmpretrain.VisionTransformer',
    arch=TINY,
    img_size=32,
    patch_size=8,
)
SWIN = network(
    32, GAP, type='mmpretrain.SwinTransformer', arch=SWIN, img_size=32, patch_size=4, window_size=2, pad_small_map=True
)
CONVNEXT = network(32, type='mmpretrain.ConvNeXt', arch=dict(depths=[1] * 4, channels=[4, 8, 16, 32]))
RESNET = network(32, GAP, type='mmpretrain.ResNet', depth=18, base_channels=4, stem_channels=4)


def distiller_with(cfg, folder, **options):
    path = save_weights(cfg, folder / 'teacher.pth')
    model = build(path, teacher=cfg, student=cfg, input_shape=(3, 32, 32), init_from_teacher='all', **options)
    model.init_weights()
    return model.eval()


@pytest.mark.parametrize('cfg', [RESNET, VIT, SWIN, CONVNEXT], ids=['ResNet', 'VisionTransformer', 'Swin', 'ConvNeXt'])
def test_own_features_give_the_own_output_and_others_another(cfg, tmp_path):
    model = distiller_with(cfg, tmp_path)

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
        path, teacher=cfg, student=cfg, input_shape=(3, 64, 64), init_from_teacher='all', stages=DETECTOR_STAGES
    ).eval()
    model.init_weights()
    images = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        before = model.teacher.extract_feat(images)
        with stitched(model, DETECTOR_STAGES[:2]) as reasons:
            after = model.teacher.extract_feat(images)
        assert not reasons and all(map(torch.equal, before, after))
        for parameter in model.student.backbone.layer2.parameters():
            parameter.zero_()
        with stitched(model, DETECTOR_STAGES[:1]):  # layer1 is still that of the teacher
            assert all(map(torch.equal, before, model.teacher.extract_feat(images)))
        with stitched(model, DETECTOR_STAGES[:2]):
            assert not torch.equal(before[-1], model.teacher.extract_feat(images)[-1])
        with stitched(model, DETECTOR_STAGES):
            assert all(map(torch.equal, model.student.extract_feat(images), model.teacher.extract_feat(images)))


def test_a_feature_beside_the_path_leads_nowhere(tmp_path):
    cfg = dict(CONVNEXT, backbone=dict(CONVNEXT['backbone'], out_indices=(0, 1, 2, 3)))
    model = distiller_with(cfg, tmp_path)
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
