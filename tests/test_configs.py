"""Every config: built as it stands, on tiny data, and trained two iterations in each phase."""

from pathlib import Path

import cv2
import mmpretrain.datasets
import numpy as np
import pytest
import torch
import yaml
from helpers import ROOT, is_detection, is_face, train
from mmengine.config import Config, ConfigDict
from mmengine.registry import DATASETS, MODELS

from mmsskd.compare.schedule import phase_epochs, set_epochs, stage_names
from mmsskd.distill.build import build_model, resolve_model_cfg, without_init
from mmsskd.distill.export import plain_config

ALL = sorted((ROOT / 'configs/sskd').glob('*.py'))
# detectors and faces have tests of their own of the same things: test_detection/test_pairs.py, test_face/test_configs.py
BASELINES = sorted((ROOT / 'configs/experiments/baselines').glob('*.py'))
SSKD = [path for path in [*ALL, *BASELINES] if not is_detection(path) and not is_face(path)]
PLAIN = [path for path in sorted((ROOT / 'configs/plain').glob('*.py')) if not is_detection(path) and not is_face(path)]


@DATASETS.register_module()
class FewImages(mmpretrain.datasets.BaseDataset):
    """Random images of the size and kind that a config's pipeline expects, with labels from 0."""

    def __init__(self, shape, count, pipeline, test_mode=False, folder=None):
        self.shape, self.count, self.folder = shape, count, folder
        super().__init__(ann_file='', pipeline=pipeline, test_mode=test_mode)

    def load_data_list(self):
        images = [np.random.default_rng(i).integers(0, 255, self.shape, dtype=np.uint8) for i in range(self.count)]
        if self.folder is None:
            return [dict(img=image, gt_label=i) for i, image in enumerate(images)]
        for i, image in enumerate(images):
            cv2.imwrite(f'{self.folder}/{i}.png', image)
        return [dict(img_path=f'{self.folder}/{i}.png', gt_label=i) for i in range(self.count)]


def inherited(path: Path, folder: Path) -> Config:
    """The config as a downstream repository inherits it."""
    (folder / 'downstream.py').write_text(f"_base_ = 'mmsskd::{path.relative_to(ROOT / 'configs').as_posix()}'\n")
    return Config.fromfile(folder / 'downstream.py')


def small(value):
    """Pipelines with images a quarter as high and wide, where they are those of ImageNet."""
    if isinstance(value, dict):
        return type(value)(
            (key, item // 4 if key in ('scale', 'crop_size') and isinstance(item, int) and item > 200 else small(item))
            for key, item in value.items()
        )
    return [small(item) for item in value] if isinstance(value, list) else value


def shrink(cfg: Config, folder: Path) -> Config:
    """The config with data for two iterations and phases of one epoch; all else as it stands."""
    shape = {'CIFAR100': (32, 32, 3), 'FashionMNIST': (28, 28), 'mmsskd.Digits': (8, 8), 'ImageNet': (64, 64, 3)}
    shape['mmsskd.IdxImages'] = (28, 28)
    head = cfg.default_hooks.get('stage_schedule', {}).get('head', {})
    loaders = [cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader]
    for loader in [*loaders, *([head.train_dataloader] if 'train_dataloader' in head else [])]:
        kind, test_mode = loader.dataset.type, loader in loaders[1:]
        # MobileNetV2 ends in maps of one place on CIFAR-100, and normalizing two values gives gradients up to 1e10
        batch_size = 2 if kind == 'ImageNet' else 4
        images = dict(type='FewImages', shape=shape[kind], count=2 * batch_size, test_mode=test_mode)
        images['pipeline'] = small(loader.dataset.pipeline)
        if kind == 'ImageNet':
            images['folder'] = str(folder)
        loader.update(batch_size=batch_size, num_workers=0, persistent_workers=False)
        loader['dataset'] = ConfigDict(images, _scope_='mmpretrain')
    if 'teacher' in cfg.model:
        cfg.model.setdefault('input_shape', (3, 64, 64))  # the package's own default is 224 pixels
    cfg.work_dir = str(folder / 'work')
    cfg.default_hooks.checkpoint.update(interval=99, save_last=False)  # hundreds of MB that no test reads
    cfg.log_level = 'WARNING'
    return cfg


@pytest.mark.slow
@pytest.mark.parametrize('path', SSKD, ids=lambda path: path.stem)
def test_stage_by_stage_config(path, tmp_path):
    cfg = shrink(inherited(path, tmp_path), tmp_path)
    teacher = build_model(without_init(resolve_model_cfg(cfg.model.teacher, 'teacher')))
    torch.save(teacher.state_dict(), tmp_path / 'teacher.pth')
    planned = cfg.train_cfg.max_epochs
    cfg.model.teacher_checkpoint = str(tmp_path / 'teacher.pth')
    lengths = phase_epochs(cfg, stage_names(cfg))
    assert sum(lengths) == planned, 'the phases must fill as many epochs as plain training'
    set_epochs(cfg, [1] * len(lengths), stage_names(cfg))
    cfg.default_hooks.stage_schedule.save_phase_ends = False
    assert train(cfg).iter == 2 * len(lengths)
    assert (tmp_path / 'work/student.pth').is_file()


@pytest.mark.slow
@pytest.mark.parametrize('path', PLAIN, ids=lambda path: path.stem)
def test_plain_config(path, tmp_path):
    cfg = shrink(inherited(path, tmp_path), tmp_path)
    cfg.train_cfg.max_epochs = 1
    assert train(cfg).iter == 2


@pytest.mark.parametrize('path', ALL, ids=lambda path: path.stem)
def test_first_lines_tell_a_stranger_what_it_is(path):
    lines = path.read_text().splitlines()
    assert lines[0].startswith('# Stage by stage on ') and 'epochs' in ' '.join(lines[:3])
    assert len(lines) <= 45


@pytest.mark.parametrize('path', ALL, ids=lambda path: path.stem)
def test_inherited_config_exports_without_our_scope(path, tmp_path):
    text = plain_config(inherited(path, tmp_path)).pretty_text
    assert "_scope_='mmsskd'" not in text and 'StageSchedule' not in text


def test_sizes_of_the_field():
    """Million parameters of the CIFAR-100 pairs as RepDistiller reports them (arXiv 1910.10699, table 1)."""
    published = {'r20': 0.28, 'r32': 0.47, 'r56': 0.86, 'r110': 1.74, 'r8x4': 1.23, 'r32x4': 7.43}
    for name, millions in published.items():
        model = MODELS.build(Config.fromfile(ROOT / f'configs/plain/cifar100_{name}.py').model)
        count = sum(p.numel() for p in model.parameters()) / 1e6
        assert count == pytest.approx(millions, abs=0.006), name


def test_metafile_lists_every_config_and_states_no_unmeasured_result():
    index = yaml.safe_load((ROOT / 'model-index.yml').read_text())
    listed = {}
    for metafile in index['Import']:
        for model in yaml.safe_load((ROOT / metafile).read_text())['Models']:
            listed[model['Config']] = model
    assert set(listed) == {path.relative_to(ROOT).as_posix() for path in ALL}
    readme = (ROOT / 'configs/sskd/README.md').read_text()
    for path, model in listed.items():
        assert Path(path).name in readme, path
        assert (ROOT / model['Teacher']['Config']).is_file() or '::' in model['Teacher']['Config']
