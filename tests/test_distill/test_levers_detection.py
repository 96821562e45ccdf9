"""The levers know no task: a detector whose neck is a stage and gets the features of all stages before it."""

import json

import pytest
import torch
from detection import STAGES, detection_cfg, detector
from helpers import same, train, weights

from mmsskd.errors import ConfigError


def test_a_detector_in_one_phase_behind_its_teacher_and_one_with_the_task(tmp_path, photos, detection_teacher):
    phases = [
        dict(train='stages', prefix='teacher', recalibrate_bn=2),
        dict(train='neck', reload_best=True),
        dict(train='all', mimic='neck', task_weight=0.5),
    ]
    cfg = detection_cfg(tmp_path, photos, detection_teacher, student=detector(), hook=dict(phases=phases))
    runner = train(cfg)
    ends = [weights(tmp_path / name) for name in ('phase1_stages.pth', 'phase2_neck.pth')]
    assert {name.split('.')[0] for name in ends[0] if not torch.equal(ends[0][name], ends[1][name])} == {'neck'}
    assert same(weights(detection_teacher), runner.model.teacher.state_dict())
    lines = [json.loads(line) for line in next(tmp_path.glob('*/vis_data/scalars.json')).read_text().splitlines()]
    first, last = ([line for line in lines if f'loss_mimic_{name}' in line] for name in ('layer1', 'neck'))
    assert all(f'loss_mimic_{name}' in line for line in first for name in STAGES)
    line = last[-1]
    parts = ('loss_rpn_cls', 'loss_rpn_bbox', 'loss_cls', 'loss_bbox', 'loss_mimic_neck')
    assert line['loss'] == pytest.approx(sum(line[name] for name in parts), rel=1e-3)


def test_neck_behind_the_teachers_features_alone(photos, detection_teacher, tmp_path):
    """With the teacher's own neck in the student it has nothing left to learn, whatever the student's backbone is."""
    from mmsskd.distill.distiller import StagewiseDistiller
    from mmsskd.distill.phases import parse_phases

    cfg = detection_cfg(tmp_path, photos, detection_teacher, student=detector())
    model = StagewiseDistiller(**{key: value for key, value in cfg.model.items() if key != 'type'})
    model.student.neck.load_state_dict(model.teacher.neck.state_dict())
    (phase,) = parse_phases([dict(train='neck', prefix='teacher', epochs=1)], STAGES, 'epochs')
    model.set_phase(phase)
    losses = model.train().loss(torch.randn(2, 3, 64, 64), None)
    assert losses['loss_mimic_neck'].item() == 0 and losses['loss_mimic_neck'].requires_grad


def test_what_a_detector_cannot(tmp_path, photos, detection_teacher):
    cfg = detection_cfg(tmp_path, photos, detection_teacher, student=detector())
    cfg.model.pre_activation = True
    with pytest.raises(
        ConfigError, match=r"pre_activation: stage 'neck' of the student \(neck\) does not end in an act"
    ):
        train(cfg)
    cfg = detection_cfg(tmp_path, photos, detection_teacher, student=detector())
    cfg.model.logits = 'roi_head.bbox_head.fc_cls'
    with pytest.raises(ConfigError, match="model.logits: .*with mode='tensor'|must give logits"):
        train(cfg)
