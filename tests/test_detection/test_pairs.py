"""Every pair of detectors: built as its config stands, on small photos, and trained through all its phases."""

import pytest
import torch
from helpers import ROOT, is_detection, train, weights
from mmengine.config import Config, ConfigDict

from mmsskd.compare.schedule import phase_epochs, set_epochs, stage_names
from mmsskd.distill.build import build_model, load_strictly, resolve_model_cfg, without_init
from mmsskd.distill.export import plain_config

pytestmark = pytest.mark.slow

SSKD = [path for path in sorted((ROOT / 'configs/sskd').glob('*.py')) if is_detection(path)]
PLAIN = [path for path in sorted((ROOT / 'configs/plain').glob('*.py')) if is_detection(path)]
AS_IT_STANDS = 'faster_rcnn_r101_r50'  # docs/pairs.md has many more in their own widths
SIZES = ('scale', 'img_scale', 'size', 'crop_size')


def small(value):
    """Pipelines with every size divided by eight and a multiple of 32; models for the CPU, where SyncBN does not train."""
    if isinstance(value, dict):
        found = {key: _eighth(item) if key in SIZES else small(item) for key, item in value.items()}
        if found.get('type') == 'SyncBN':
            found['type'] = 'BN'
        return type(value)(found)
    if isinstance(value, (list, tuple)):
        return type(value)(small(item) for item in value)
    return value


def _eighth(size):
    return type(size)(_eighth(item) for item in size) if isinstance(size, (list, tuple)) else max(size // 256 * 32, 64)


def inherited(path, folder) -> Config:
    (folder / 'downstream.py').write_text(f"_base_ = 'mmsskd::{path.parent.name}/{path.name}'\n")
    return Config.fromfile(folder / 'downstream.py')


def shrink(cfg: Config, photos, folder) -> Config:
    """The config on the small set: one iteration an epoch; all else as it stands."""
    schedule = cfg.default_hooks.get('stage_schedule', {})
    unlabelled = schedule.get('transfer', {}).get('train_dataloader')
    labelled = schedule.get('head', {}).get('train_dataloader')
    for loader, split in (
        (cfg.train_dataloader, 'train'),
        (labelled, 'train'),
        (cfg.val_dataloader, 'val'),
        (cfg.test_dataloader, 'val'),
    ):
        if not loader:
            continue
        loader.dataset.update(
            data_root=f'{photos}/', ann_file=f'annotations/{split}.json', data_prefix=dict(img=f'{split}/')
        )
        loader.dataset.metainfo = dict(classes=tuple('0123456789'))
    if unlabelled:
        unlabelled.dataset.data_root = f'{photos}/unlabelled'
    for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader, unlabelled, labelled):
        if loader:
            loader.update(batch_size=2, num_workers=0, persistent_workers=False, pin_memory=False)
            loader.dataset.update(pipeline=small(loader.dataset.pipeline), indices=2)
    if schedule:
        cfg.model.input_shape = (3, 64, 64)
    cfg.val_evaluator.ann_file = cfg.test_evaluator.ann_file = f'{photos}/annotations/val.json'
    cfg.work_dir, cfg.log_level = str(folder / 'work'), 'WARNING'
    cfg.default_hooks.checkpoint.update(interval=99, save_last=False)
    return cfg


def ten_classes(model) -> ConfigDict:
    """The student of a config with heads for the ten digits, without weights that would be fetched."""
    model = small(without_init(model))
    for head in (model.get('bbox_head'), *(model.get('roi_head') or {}).values()):
        if isinstance(head, dict) and 'num_classes' in head:
            head.num_classes = 10
    return model


def narrow(model, as_it_stands: bool) -> ConfigDict:
    """The detector with few proposals, and ResNet, neck and heads a quarter as wide; of ``as_it_stands`` only the first."""
    if 'rpn_head' in model:
        model.train_cfg.rpn_proposal.update(nms_pre=50, max_per_img=20)
        model.train_cfg.rcnn.sampler.num = 16
        model.test_cfg.rpn.update(nms_pre=50, max_per_img=20)
        model.test_cfg.rcnn.max_per_img = 10
    if not as_it_stands:
        if model.backbone.type == 'ResNet':
            model.backbone.base_channels = 16
            model.neck.in_channels = [channels // 4 for channels in model.neck.in_channels]
        if 'roi_head' in model:
            model.roi_head.bbox_head.fc_out_channels = 32
        for part in ('neck', 'rpn_head', 'roi_head', 'bbox_head'):
            if model.backbone.type != 'CSPNeXt' and part in model:
                model[part] = quarter(model[part])
    return model


def quarter(part):
    """A neck or a head with 64 channels where it has 256."""
    if isinstance(part, dict):
        return type(part)(
            (key, 64 if item == 256 and key.endswith('_channels') else quarter(item)) for key, item in part.items()
        )
    return part


@pytest.mark.parametrize('path', SSKD, ids=lambda path: path.stem)
def test_pair(path, photos, tmp_path):
    cfg = shrink(inherited(path, tmp_path), photos, tmp_path)
    torch.manual_seed(0)
    if cfg.model.get('init_from_teacher') == 'head':
        cfg.model.teacher = ten_classes(resolve_model_cfg(cfg.model.teacher, 'teacher'))  # a head that fits
    if 'digits' not in path.stem:
        for side in ('teacher', 'student'):
            cfg.model[side] = narrow(resolve_model_cfg(cfg.model[side], side), path.stem == AS_IT_STANDS)
    teacher = build_model(without_init(resolve_model_cfg(cfg.model.teacher, 'teacher')))
    torch.save(teacher.state_dict(), tmp_path / 'teacher.pth')
    cfg.model.teacher_checkpoint = str(tmp_path / 'teacher.pth')
    cfg.model.student = ten_classes(resolve_model_cfg(cfg.model.student, 'student'))
    names, planned = stage_names(cfg), cfg.train_cfg.max_epochs
    lengths = phase_epochs(cfg, names)
    assert sum(lengths) == planned, 'the phases must fill as many epochs as plain training'
    set_epochs(cfg, [1] * len(lengths), names)
    for hook in cfg.get('custom_hooks', []):
        if hook.type == 'EMAHook':
            assert hook.begin_epoch == planned - lengths[-1] + 1
            hook.begin_epoch = 6
    cfg.default_hooks.stage_schedule.save_phase_ends = False  # half a GB at each border, written elsewhere
    runner = train(cfg)
    assert runner.iter == len(lengths)
    adapted = {'bccd_r50_r18': 4, 'faster_rcnn_r101_r18': 4, 'faster_rcnn_r50_mobilenetv2': 4, 'rtmdet_l_s': 5}
    if 'digits' not in path.stem:
        assert len(runner.model.adapters) == adapted.get(path.stem, 0)
    plain = plain_config(runner.cfg)
    assert 'mmsskd' not in plain.pretty_text
    load_strictly(build_model(plain.model), str(tmp_path / 'work/student.pth'), 'student.pth')
    assert not [name for name in weights(tmp_path / 'work/student.pth') if name.startswith(('adapters', 'teacher'))]


@pytest.mark.parametrize('path', PLAIN, ids=lambda path: path.stem)
def test_plain(path, photos, tmp_path):
    cfg = shrink(inherited(path, tmp_path), photos, tmp_path)
    cfg.model = ten_classes(cfg.model)
    cfg.train_cfg.max_epochs = 1
    assert train(cfg).iter == 1
