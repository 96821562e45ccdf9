"""The flagship config on real COCO photos, where they are there: two iterations in each phase, then COCO's metric."""

import pytest
import torch
from helpers import ROOT, train
from mmengine.config import Config

from mmsskd.distill.build import build_model, resolve_model_cfg, without_init

pytestmark = pytest.mark.slow

FOLDER = ROOT.parent / 'shared/data/coco128'


@pytest.mark.skipif(not FOLDER.is_dir(), reason='needs 128 photos of COCO in ../shared/data/coco128')
def test_flagship_on_real_photos(tmp_path):
    cfg = Config.fromfile(ROOT / 'configs/sskd/faster_rcnn_r101_r50.py')
    teacher = build_model(without_init(resolve_model_cfg(cfg.model.teacher, 'teacher')))
    torch.save(teacher.state_dict(), tmp_path / 'teacher.pth')
    cfg.model.update(teacher_checkpoint=str(tmp_path / 'teacher.pth'))
    cfg.model.student.backbone.init_cfg = None
    for key in ('train', 'val', 'test'):
        loader = cfg[f'{key}_dataloader']
        loader.update(num_workers=0, persistent_workers=False)
        loader.dataset.update(
            data_root=str(FOLDER), ann_file='instances_train2017.json', data_prefix=dict(img='train2017/'), indices=4
        )
        resize = next(step for step in loader.dataset.pipeline if step.type == 'Resize')
        resize.scale = (240, 160)
    cfg.val_evaluator.ann_file = cfg.test_evaluator.ann_file = str(FOLDER / 'instances_train2017.json')
    cfg.default_hooks.stage_schedule.head.epochs = 1
    cfg.update(work_dir=str(tmp_path / 'run'), log_level='WARNING', experiment_name='coco128')
    runner = train(cfg)
    assert runner.iter == 6 * 2
    assert 'teacher_metrics' in runner.message_hub.runtime_info
    scalars = runner.message_hub.log_scalars
    assert all(torch.isfinite(p).all() for p in runner.model.student.parameters())
    assert scalars['train/loss_cls'].current() > 0 and (tmp_path / 'run/student.pth').is_file()
