"""Every face config: inherited, built as it stands on tiny data, and trained in each phase; one variable for each place of data."""

import pickle
import re

import cv2
import numpy as np
import pytest
import torch
from face import write_people
from helpers import ROOT, is_face, train
from mmengine.config import Config

from mmsskd.compare.schedule import phase_epochs, set_epochs, stage_names
from mmsskd.distill.build import build_model, resolve_model_cfg, without_init
from mmsskd.face.data.record_folders import folder_to_records
from mmsskd.face.evaluation.protocols.ijba_writer import write_ijba_shaped

# the plain configs below build each network as it stands
AS_THEY_STAND = {'face_orl_r18_r18': ('teacher', 'student'), 'face_r50_mobilefacenet_ms1mv2': ('student',)}
SSKD = [path for path in sorted((ROOT / 'configs/sskd').glob('*.py')) if is_face(path)]
PLAIN = [path for path in sorted((ROOT / 'configs/plain').glob('*.py')) if is_face(path)]


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    """One folder with everything: records, pairs, IJB-A, folders of people, faces without names."""
    root = tmp_path_factory.mktemp('data')
    write_people(root / 'orl/train', 2, 2, shape=(112, 92))
    write_people(root / 'faces', 1, 2)
    folder_to_records(root / 'orl/train', root / 'train')
    write_ijba_shaped(write_people(root / 'others', 6, 4, first=20, shape=(56, 48)), root / 'ijba', splits=1)
    (root / 'templates.csv').write_text('TEMPLATE_ID,SUBJECT_ID,FILE,MEDIA_ID\n1,1,p00/0.png,1\n2,1,p00/1.png,2\n')
    (root / 'pairs.csv').write_text('1,2\n')
    crops = [cv2.imencode('.png', np.full((112, 112, 3), 12 * i, np.uint8))[1].tobytes() for i in range(20)]
    for name in ('lfw', 'cfp_fp', 'agedb_30'):
        (root / f'{name}.bin').write_bytes(pickle.dumps((crops, [True, False] * 5)))
    return root


@pytest.fixture
def inherited(data, tmp_path, monkeypatch):
    """The config as a downstream repository inherits it, on that data: its places by their variables, batches of two."""

    def read(path) -> Config:
        for name in ('MS1MV3_ROOT', 'MS1MV2_ROOT', 'CASIA_ROOT', 'FACE_PAIRS_ROOT'):
            monkeypatch.setenv(name, str(data))
        monkeypatch.setenv('IJBA_ROOT', str(data / 'ijba'))
        (tmp_path / 'downstream.py').write_text(f"_base_ = 'mmsskd::{path.parent.name}/{path.name}'\n")
        cfg = Config.fromfile(tmp_path / 'downstream.py')
        schedule = cfg.default_hooks.get('stage_schedule', {})
        loaders = [cfg.train_dataloader, schedule.get('transfer', {}).get('train_dataloader')]
        for loader in [loader for loader in loaders if loader]:
            loader.update(batch_size=2, num_workers=0, persistent_workers=False)
        if loaders[1]:
            loaders[1].dataset.data_root = str(data / 'faces')
        if 'orl' in path.name:
            cfg.train_dataloader.dataset.data_root = str(data / 'orl/train')
            cfg.val_dataloader.dataset.sets.orl.root = cfg.test_dataloader.dataset.sets.orl.root = str(data / 'ijba')
            for loader in (cfg.val_dataloader, cfg.test_dataloader):
                loader.dataset.sets.orl.splits = [1]
        cfg.train_dataloader.dataset.indices = 2
        for loader in (cfg.val_dataloader, cfg.test_dataloader):
            loader.update(batch_size=4, num_workers=0)
        cfg.work_dir, cfg.log_level = str(tmp_path / 'work'), 'WARNING'
        return cfg

    return read


@pytest.mark.slow
@pytest.mark.parametrize('path', SSKD, ids=lambda path: path.stem)
def test_stage_by_stage_config(path, inherited, data, tmp_path):
    cfg = inherited(path)
    for side in ('teacher', 'student'):
        if side not in AS_THEY_STAND.get(path.stem, ()):  # a narrow network in its place
            cfg.model[side].update(backbone=dict(depth=18, base_channels=8), neck=dict(in_channels=64))
        cfg.model[side].update(head=dict(num_classes=100))  # not of thousands of people, which the plain configs have
    teacher = build_model(without_init(resolve_model_cfg(cfg.model.teacher, 'teacher')))
    torch.save(teacher.state_dict(), tmp_path / 'teacher.pth')
    cfg.model.teacher_checkpoint = str(tmp_path / 'teacher.pth')
    names = stage_names(cfg)
    lengths = phase_epochs(cfg, names)
    assert sum(lengths) == cfg.train_cfg.max_epochs, 'the phases must fill as many epochs as plain training'
    set_epochs(cfg, [1] * len(lengths), names)
    cfg.default_hooks.stage_schedule.save_phase_ends = False  # half a GB each, written elsewhere
    cfg.default_hooks.checkpoint.interval = 99
    files = dict(metadata=str(data / 'templates.csv'), pairs=str(data / 'pairs.csv'), root=str(data / 'faces'))
    cfg.val_dataloader.dataset.pop('sets')
    cfg.val_dataloader.dataset.sets = dict(two=dict(reader='templates', **files))  # large networks on two faces
    runner = train(cfg)
    assert runner.iter == len(lengths) and (tmp_path / 'work/student.pth').is_file()


@pytest.mark.slow
@pytest.mark.parametrize('path', PLAIN, ids=lambda path: path.stem)
def test_plain_config_builds_with_its_evaluations(path, inherited):
    from mmengine.runner import Runner

    cfg = inherited(path)
    if 'orl' not in path.name:
        assert set(cfg.test_dataloader.dataset.sets) == {'lfw', 'cfp_fp', 'agedb_30', 'ijba'}
        assert set(cfg.val_dataloader.dataset.sets) == {'lfw', 'cfp_fp', 'agedb_30'}
        cfg.test_dataloader.dataset.sets.ijba.splits = [1]
    runner = Runner.from_cfg(cfg)
    assert runner.model.head.num_classes == cfg.data_preprocessor.num_classes
    assert len(runner.test_loop.dataloader.dataset) == runner.test_loop.dataloader.dataset.metainfo['starts'][-1]


def test_each_place_of_data_has_a_variable():
    """A default, and a name in the environment; docs/faces.md lists those of faces, docs/compare.md the others."""
    faces, others = (ROOT / 'docs/faces.md').read_text(), (ROOT / 'docs/compare.md').read_text()
    for path in (ROOT / 'configs/_base_/datasets').glob('*.py'):
        for name in re.findall(r'\{\{\$(\w+):', path.read_text()):
            text = others if path.name.startswith(('fashion', 'bccd')) else faces
            assert name in text, (path.name, name)


@pytest.mark.slow
def test_one_training_epoch_of_the_small_teacher(inherited):
    cfg = inherited(ROOT / 'configs/plain/face_orl_r18.py')
    cfg.train_cfg.max_epochs = 1
    assert train(cfg).iter == 1
