"""What the networks are shown: one batch, preprocessed once, for both; photos without annotations; nothing resized inside."""

import re
import shutil

import pytest
import torch
from detection import STAGES, detection_cfg, detector, save_detector
from helpers import same, train, weights
from mmdet.models import FasterRCNN
from mmdet.structures import DetDataSample
from mmengine.config import ConfigDict
from mmengine.hooks import Hook
from mmengine.registry import HOOKS, MODELS

from mmsskd.distill.build import build_model, load_strictly
from mmsskd.distill.network.stages import find_stages
from mmsskd.errors import ConfigError

BATCH_AUGMENTS = [dict(type='BatchSyncRandomResize', random_size_range=(64, 128), interval=1, size_divisor=32)]


@HOOKS.register_module()
class SeenImages(Hook):
    """Notes each image batch that the backbone of teacher or student is given in a training step."""

    def before_train(self, runner):
        self.seen = []
        model = runner.model
        for name, network in (('teacher', model.teacher), ('student', model.student)):
            network.backbone.register_forward_pre_hook(
                lambda module, args, name=name: self.seen.append((name, args[0])) if runner.model.training else None
            )

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        self.seen.clear()

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        steps = runner.message_hub.runtime_info.setdefault('steps', [])
        steps.append([(name, image) for name, image in self.seen])


@pytest.mark.slow
def test_both_networks_see_the_batch_that_was_preprocessed_once(photos, detection_teacher, tmp_path):
    """Multi-scale in the pipeline and in the preprocessor's batch augments; the sizes change, and both see the same tensor."""
    student = detector(width=4, **{'data_preprocessor.batch_augments': BATCH_AUGMENTS})
    cfg = detection_cfg(tmp_path, photos, detection_teacher, student=student, custom_hooks=[dict(type='SeenImages')])
    runner = train(cfg)
    steps = runner.message_hub.get_info('steps')
    assert len(steps) == 18
    for step in steps[:15]:
        assert [name for name, _ in step] == ['teacher', 'student']
        assert step[0][1] is step[1][1]
    assert all([name for name, _ in step] == ['student'] for step in steps[15:])  # no teacher in the head phase
    assert len({image.shape[-2:] for step in steps for _, image in step}) > 1


@pytest.mark.slow
def test_instance_masks_with_batch_augments_and_without_annotations(photos, tmp_path):
    """Mask R-CNN's pipeline on photos without annotations: empty boxes and masks go through padding and resizing."""
    teacher = save_detector(detector(), tmp_path / 'teacher.pth')
    pipeline = [
        dict(type='LoadImageFromFile'),
        dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
        dict(type='RandomFlip', prob=0.5),
        dict(type='PackDetInputs'),
    ]
    unlabelled = dict(
        batch_size=2,
        num_workers=0,
        sampler=dict(type='DefaultSampler', shuffle=True),
        batch_sampler=dict(type='AspectRatioBatchSampler'),
        dataset=dict(type='mmsskd.UnlabelledImages', data_root=str(photos / 'unlabelled'), pipeline=pipeline),
    )
    student = detector(
        width=4,
        **{'data_preprocessor.batch_augments': BATCH_AUGMENTS, 'data_preprocessor.pad_mask': True},
    )
    cfg = detection_cfg(tmp_path / 'run', photos, teacher, student=student, hook=dict(phases=[dict(train='neck')]))
    cfg.default_hooks.stage_schedule.transfer.train_dataloader = unlabelled
    before = build_model(ConfigDict(student))
    runner = train(cfg)
    assert runner.iter == 3  # five photos, two at a time
    name = 'neck.fpn_convs.0.conv.weight'
    assert runner.model.student.state_dict()[name].shape == before.state_dict()[name].shape


class ResizingFasterRCNN(FasterRCNN):
    """Resizes in extract_feat, as some YOLO ports do."""

    def extract_feat(self, batch_inputs):
        return super().extract_feat(torch.nn.functional.interpolate(batch_inputs, size=(96, 96)))


class MultiScaleLossFasterRCNN(FasterRCNN):
    """Resizes only in the loss, as YOLOX did before mmdet 3."""

    def loss(self, batch_inputs, batch_data_samples):
        return super().loss(torch.nn.functional.interpolate(batch_inputs, scale_factor=2), batch_data_samples)


@pytest.mark.slow
@pytest.mark.parametrize('side', ['teacher', 'student'])
def test_a_model_that_resizes_inside_its_forward_is_refused(photos, detection_teacher, tmp_path, side):
    MODELS.register_module(module=ResizingFasterRCNN, force=True)
    models = dict(teacher=detector(), student=detector(width=4))
    models[side].update(type='ResizingFasterRCNN', _scope_='mmdet')
    with pytest.raises(ConfigError, match=r'ResizingFasterRCNN resizes the image inside its forward.*batch_augments'):
        train(detection_cfg(tmp_path, photos, detection_teacher, **models))


@pytest.mark.slow
def test_a_student_that_resizes_inside_its_loss_is_refused(photos, detection_teacher, tmp_path):
    MODELS.register_module(module=MultiScaleLossFasterRCNN, force=True)
    student = dict(detector(width=4), type='MultiScaleLossFasterRCNN', _scope_='mmdet')
    message = r'MultiScaleLossFasterRCNN resizes the image inside its loss, from \((\d+), \d+\) to \((\d+), \d+\)'
    with pytest.raises(ConfigError, match=message) as refused:
        train(detection_cfg(tmp_path, photos, detection_teacher, student=student))
    before, after = map(int, re.search(message, str(refused.value)).groups())
    assert after == 2 * before


class TrainingModeFasterRCNN(FasterRCNN):
    """Its loss works in training mode only, as those of DETRs and RepPoints; it counts the forwards of its loss."""

    def loss(self, batch_inputs, batch_data_samples):
        assert self.training, 'called in eval mode'
        return super().loss(batch_inputs, batch_data_samples)


@pytest.mark.slow
def test_the_rehearsal_is_in_training_mode_and_leaves_no_trace(photos, detection_teacher, tmp_path):
    """All phases get a dry run, but only layer1 trains: weights and statistics of the rest stay as they began, to the bit."""
    MODELS.register_module(module=TrainingModeFasterRCNN, force=True)
    student = dict(detector(width=4), type='TrainingModeFasterRCNN', _scope_='mmdet')
    start = save_detector(detector(width=4), tmp_path / 'start.pth', seed=5)
    cfg = detection_cfg(tmp_path / 'run', photos, detection_teacher, student=student)
    cfg.model.student_checkpoint = start
    runner = train(cfg)
    assert runner.iter == 18 and runner.model.detector is runner.model.student
    before, after = weights(start), weights(tmp_path / 'run/phase1_layer1.pth')
    later = [name for name in before if name.startswith(('backbone.layer2', 'neck', 'rpn_head', 'roi_head'))]
    assert any('running_mean' in name for name in later) and same(before, after, later)


def test_upsampling_of_features_is_not_taken_for_resizing():
    """An FPN upsamples; so may a backbone, after its first layer."""
    model = build_model(ConfigDict(detector()))
    assert len(find_stages(model, STAGES, torch.randn(1, 3, 64, 64))) == 5


def test_a_teacher_of_other_images_sees_its_own(detection_teacher, tmp_path):
    """Its features equal those of its own data preprocessor, beside the smaller image of a batch too."""
    other = {
        'data_preprocessor.mean': [0.0] * 3,
        'data_preprocessor.std': [255.0] * 3,
        'data_preprocessor.bgr_to_rgb': False,
    }
    cfg = detection_cfg(tmp_path, tmp_path, detection_teacher, student=detector(width=4, **other))
    model = MODELS.build(cfg.model)
    alone = build_model(ConfigDict(detector())).eval()
    load_strictly(alone, detection_teacher, 'path')
    sizes = (64, 64), (40, 50)
    images = [torch.randint(0, 256, (3, *size), dtype=torch.uint8) for size in sizes]

    def batch():
        samples = [DetDataSample(metainfo=dict(img_shape=size, pad_shape=size)) for size in sizes]
        return dict(inputs=[image.clone() for image in images], data_samples=samples)

    theirs = alone.extract_feat(alone.data_preprocessor(batch(), False)['inputs'])
    ours = model.teacher.extract_feat(model.data_preprocessor(batch(), False)['inputs'])
    for found, wanted in zip(ours, theirs, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)


# -- photos without annotations ----------------------------------------------------------------------------------------


@pytest.mark.slow
def test_transfer_on_unlabelled_photos_and_the_head_on_labelled_ones(photos, detection_teacher, tmp_path):
    """The labelled set is removed from the transfer phases altogether: its loader is not asked for an image in them."""
    root = tmp_path / 'photos'
    shutil.copytree(photos / 'unlabelled', root)
    cfg = detection_cfg(tmp_path / 'run', photos, detection_teacher)
    dataset = dict(type='mmsskd.UnlabelledImages', data_root=str(root), pipeline=cfg.train_dataloader.dataset.pipeline)
    cfg.default_hooks.stage_schedule.transfer.train_dataloader = dict(
        cfg.train_dataloader, dataset=dataset, batch_size=1
    )
    runner = train(cfg)
    assert runner.iter == 5 * 5 + 3  # five photos one by one for each of five phases, then the labelled six two by two
    assert (tmp_path / 'run/student.pth').is_file()
