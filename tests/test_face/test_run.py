"""Whole runs with faces: plain, stage by stage in both readings of where the embedding belongs, unlabelled, and what comes out."""

import json

import numpy as np
import pytest
import torch
from face import face_run, recognizer, save_recognizer
from helpers import ROOT, same, train, warm_python, weights
from mmengine.config import Config

from mmsskd.errors import ConfigError
from mmsskd.visualization.history import read_history

pytestmark = pytest.mark.slow


def report_of(folder, name):
    (path,) = folder.glob(f'*/{name}.json')
    return json.loads(path.read_text())


@pytest.fixture(scope='module')
def run(tmp_path_factory, face_sets, face_teacher):
    """Five stages and the classifier; IResNet teaches MobileFaceNet, of other widths."""
    folder = tmp_path_factory.mktemp('run')
    models = (recognizer(), recognizer(backbone='MobileFaceNet'))
    runner = train(face_run(folder, face_sets, face_teacher, models=models, **{'train_cfg.val_interval': 6}))
    return folder, runner


def test_stages_are_those_of_the_backbone_and_the_embedding(run):
    folder, runner = run
    assert list(runner.model.stages) == ['layers.1', 'layers.3', 'layers.5', 'layers.7', 'neck']
    assert runner.epoch == 6 and runner.iter == 6 * 3
    names = [f'phase{i}_{stage}.pth' for i, stage in enumerate(runner.model.stages, 1)]
    assert all((folder / name).is_file() for name in names)


def test_teacher_and_student_are_measured_on_the_same_crops(run):
    folder, _ = run
    teacher, student = report_of(folder, 'ijba_teacher'), report_of(folder, 'ijba_iter_18')
    assert teacher['crop_hash'] == student['crop_hash'] and len(student['splits']) == 10
    assert teacher['summary'] != student['summary']
    assert student['faces']['aligned_by'] == {'box': student['faces']['count']}
    assert student['faces']['failures_by_reason'] == {}
    logged = read_history(folder).last('ijba/rank-1')
    assert logged == pytest.approx(student['summary']['rank-1']['mean'])


def test_a_frozen_embedding_is_not_changed_by_the_classifier(run):
    """To the bit: the embedding is a stage, so the last phase moves the class centres and nothing else."""
    folder, _ = run
    before, after = weights(folder / 'phase5_neck.pth'), weights(folder / 'epoch_6.pth')
    others = [name for name in after if name != 'head.weight']
    assert same(before, after, others) and not torch.equal(before['head.weight'], after['head.weight'])


def test_the_student_is_measured_by_the_tool_from_its_own_files(run, tmp_path):
    folder, _ = run
    result = warm_python(
        ROOT / 'tools/test.py', folder / 'student.py', folder / 'student.pth', '--work-dir', tmp_path, cwd=tmp_path
    )
    assert result.returncode == 0, result.stderr
    assert 'student: ijba/tar@far=1e-2: ' in result.stdout
    own, during = report_of(tmp_path, 'ijba'), report_of(folder, 'ijba_iter_18')
    assert own['splits'] == during['splits'] and own['summary'] == during['summary']


def test_embedding_in_head_learns_with_the_classifier(tmp_path, face_sets):
    teacher = save_recognizer(recognizer(), tmp_path / 'teacher.pth')
    models = (recognizer(embedding_in='head'), recognizer(4, embedding_in='head'))
    cfg = face_run(tmp_path / 'work', face_sets, teacher, models=models)
    runner = train(cfg)
    assert list(runner.model.stages) == ['layer1', 'layer2', 'layer3', 'layer4']
    before, after = weights(tmp_path / 'work/phase4_layer4.pth'), weights(tmp_path / 'work/epoch_5.pth')
    backbone = [name for name in after if name.startswith('backbone.')]
    assert backbone and same(before, after, backbone)
    assert not torch.equal(before['neck.fc.weight'], after['neck.fc.weight'])


def test_with_one_reading_on_each_side_the_stages_that_both_have_are_followed(tmp_path, face_sets, face_teacher):
    models = (recognizer(), recognizer(4, embedding_in='head'))
    runner = train(face_run(tmp_path, face_sets, face_teacher, models=models))
    assert [stage.name for stage in runner.model.teacher_stages.values()] == ['layer1', 'layer2', 'layer3', 'layer4']
    (log,) = tmp_path.glob('*/*.log')
    assert 'the teacher has 5 stages, of which the 4 of the student follow' in log.read_text()


def test_classifier_from_the_teachers_class_centres(tmp_path, face_sets, face_teacher):
    phases = [dict(train='neck'), dict(train='head')]
    optimizer = {'model.init_from_teacher': 'head', 'optim_wrapper.optimizer.lr': 1e-300}
    train(face_run(tmp_path, face_sets, face_teacher, hook=dict(phases=phases), **optimizer))
    assert torch.equal(weights(tmp_path / 'epoch_2.pth')['head.weight'], weights(face_teacher)['head.weight'])


def test_stages_learn_from_faces_without_names(tmp_path, face_sets, face_teacher):
    """Also with a teacher as InsightFace releases it: flat names, no classifier."""
    from mmengine.registry import MODELS

    from mmsskd.face.export import arcface_state_dict

    model = MODELS.build(recognizer())
    model.load_state_dict(weights(face_teacher))
    torch.save(arcface_state_dict(model), tmp_path / 'backbone.pth')
    unlabelled = dict(
        batch_size=6,
        num_workers=0,
        dataset=dict(
            type='mmsskd.UnlabelledImages',
            data_root=str(face_sets / 'unlabelled'),
            pipeline=[
                dict(type='LoadImageFromFile'),
                dict(type='mmsskd.AlignFace', size=32),
                dict(type='mmpretrain.PackInputs'),
            ],
        ),
        sampler=dict(type='DefaultSampler', shuffle=True),
    )
    transfer = dict(epochs=5, train_dataloader=unlabelled)
    cfg = face_run(
        tmp_path / 'work', face_sets, str(tmp_path / 'backbone.pth'), models=(recognizer(head=None), recognizer(4))
    )
    cfg.default_hooks.stage_schedule.update(phases=[dict(train='stages')], transfer=transfer)
    runner = train(cfg)
    records = read_history(tmp_path / 'work').records
    losses = [record['loss_mimic_neck'] for record in records if 'loss_mimic_neck' in record]
    assert runner.iter == len(losses) == 15 and losses[-1] < 0.8 * losses[0]


def test_training_learns_people_and_tells_others_apart(tmp_path, face_sets):
    """A teacher worth the name: of people that it has never seen nine in ten are found at once."""
    cfg = face_run(tmp_path, face_sets, None, **{'train_cfg.max_epochs': 12, 'train_cfg.val_interval': 12})
    train(cfg)
    history = read_history(tmp_path)
    losses = [record['loss'] for record in history.records if 'loss' in record]
    assert np.mean(losses[-3:]) < 0.5 * np.mean(losses[:3])
    assert history.last('ijba/rank-1') > 0.9


def test_more_people_than_the_classifier_has(tmp_path, face_sets, face_teacher):
    models = (recognizer(), recognizer(4, num_classes=5))
    with pytest.raises(ConfigError, match=r'train_dataloader: 6 classes, but model.student.head is made for 5'):
        train(face_run(tmp_path, face_sets, face_teacher, models=models))


def test_exported_config_says_what_it_needs(run):
    cfg = Config.fromfile(run[0] / 'student.py')
    assert cfg.custom_imports['imports'] == ['mmsskd'] and cfg.model.type == 'mmsskd.FaceRecognizer'
