"""A whole run on digits on photos: what trains, what stays, what comes out, and that stock mmdet takes it."""

import json
import os
import pickle
import re

import pytest
import torch
from detection import STAGES, detection_cfg, detector, save_detector, scope
from helpers import ROOT, same, train, warm_python, weights
from mmengine.config import Config
from mmengine.registry import DATASETS
from mmengine.utils import get_installed_path

from mmsskd.distill.build import build_model, load_strictly

pytestmark = pytest.mark.slow


@pytest.fixture(scope='module')
def run(photos, detection_teacher, tmp_path_factory):
    folder = tmp_path_factory.mktemp('run')
    runner = train(detection_cfg(folder, photos, detection_teacher))
    return runner, folder


def test_phases_train_their_part_and_nothing_else_moves_by_a_bit(run):
    runner, folder = run
    files = [f'phase{i + 1}_{stage}.pth' for i, stage in enumerate(STAGES)] + ['epoch_6.pth']
    states = [weights(folder / file) for file in files]
    distiller = runner.model
    for before, after, part in zip(states, states[1:], [*STAGES[1:], 'head']):
        own = {*distiller.parameters_of(part), *(name for name in after if name.startswith(f'adapters.{part}.'))}
        moved = {name for name in after if not torch.equal(before[name], after[name])}
        buffers = {name for name in moved if 'running_' in name or 'num_batches' in name}
        assert moved - buffers <= own and moved & own, part
        modules = distiller.modules_of(part)
        adapter = f'adapters.{part}.'
        assert all(name.rpartition('.')[0] in modules or name.startswith(adapter) for name in buffers), part
    assert any(name.startswith('adapters.layer4') for name in states[-1])  # widths differ
    assert {name.split('.')[0] for name in distiller.parameters_of('head')} == {'rpn_head', 'roi_head'}


def test_metrics_are_measured_where_they_mean_something(run):
    _, folder = run
    (path,) = folder.glob('*/vis_data/scalars.json')
    records = [json.loads(line) for line in path.read_text().splitlines()]
    assert 'teacher/coco/bbox_mAP' in records[0]
    for stage in STAGES:
        assert sum(f'val/relative_error_{stage}' in record for record in records) == 1
    maps = [record for record in records if 'coco/bbox_mAP' in record]
    assert len(maps) == 1 and {'coco/bbox_mAP_50', 'coco/bbox_mAP_75', 'coco/bbox_mAP_s'} <= set(maps[0])
    assert 'loss_rpn_cls' in records[-2] and 'loss_mimic_neck' not in records[-2]


STOCK = """
import sys, pickle, torch
from mmdet.apis import init_detector, inference_detector, DetInferencer
config, checkpoint, image, out = sys.argv[1:]
model = init_detector(config, checkpoint, device='cpu')
first = inference_detector(model, image).pred_instances
inferencer = DetInferencer(model=config, weights=checkpoint, device='cpu', show_progress=False)
second = inferencer(image, pred_score_thr=0.0, return_datasamples=True)['predictions'][0].pred_instances
assert not [name for name in sys.modules if name.startswith('mmsskd')]
results = [{key: value[key] for key in ('bboxes', 'scores', 'labels')} for value in (first, second)]
pickle.dump((results, model.dataset_meta['classes'], model.state_dict()), open(out, 'wb'))
"""


def test_stock_mmdet_loads_the_student_and_predicts_the_same_to_the_bit(run, photos, tmp_path):
    """init_detector and DetInferencer in a process that never imports mmsskd."""
    _, folder = run
    image, out = photos / 'val/000000.png', tmp_path / 'out.pkl'
    result = warm_python('-c', STOCK, folder / 'student.py', folder / 'student.pth', image, out, cwd=tmp_path)
    assert result.returncode == 0, result.stderr[-3000:]
    assert 'do not match' not in result.stdout + result.stderr  # mmdet loads loosely, and would say so
    predictions, classes, state = pickle.loads(out.read_bytes())
    assert tuple(classes) == tuple('0123456789')
    student = weights(folder / 'student.pth')
    assert set(state) == set(student) and same(state, student)
    model = run[0].model.eval()
    with scope(), torch.no_grad():
        dataset = DATASETS.build(Config.fromfile(folder / 'student.py').val_dataloader.dataset)
        item = dataset[0]
        (mine,) = model.test_step(dict(inputs=[item['inputs']], data_samples=[item['data_samples']]))
    assert len(mine.pred_instances) > 0
    for prediction in predictions:
        for key, value in prediction.items():
            assert torch.equal(value, mine.pred_instances[key]), key


def metrics_of(output: str) -> dict[str, float]:
    """The COCO metrics in a line of a log."""
    return {key: float(value) for key, value in re.findall(r'coco/(bbox_mAP\w*): (-?[\d.]+)', output)}


def test_the_tools_of_both_give_the_same_predictions_and_ap(run, photos, tmp_path):
    """mmdet's tools/test.py on the exported student; ours on the run, with the teacher, and on the exported student."""
    _, folder = run
    stock, ours = os.path.join(get_installed_path('mmdet'), '.mim/tools/test.py'), ROOT / 'tools/test.py'
    student = (folder / 'student.py', folder / 'student.pth')
    (config,) = [path for path in folder.glob('*.py') if path.name != 'student.py']
    outs = [tmp_path / f'{name}.pkl' for name in ('stock', 'run', 'export')]
    loud = ('--cfg-options', 'log_level=INFO')
    results = [
        warm_python(stock, *student, '--work-dir', tmp_path, '--out', outs[0], *loud, cwd=tmp_path),
        warm_python(
            ours, config, folder / 'epoch_6.pth', '--teacher', '--work-dir', tmp_path, '--out', outs[1], cwd=tmp_path
        ),
        warm_python(ours, *student, '--work-dir', tmp_path, '--out', outs[2], cwd=tmp_path),
    ]
    for result in results:
        assert result.returncode == 0, result.stderr[-3000:]
    lines = [line for line in results[1].stdout.splitlines() if line.startswith(('teacher: ', 'student: '))]
    assert [line.split(':')[0] for line in lines] == ['teacher', 'student']
    assert all(len(metrics_of(line)) == 6 for line in lines)  # AP, AP50, AP75, S, M, L
    assert [line for line in results[2].stdout.splitlines() if line.startswith('student: ')] == lines[1:]
    stock_line = next(line for line in results[0].stdout.splitlines() if 'coco/bbox_mAP_50: ' in line)
    assert metrics_of(stock_line) == pytest.approx(metrics_of(lines[1]), abs=1e-4)
    predictions = [pickle.loads(path.read_bytes()) for path in outs]
    assert len(predictions[0]) == 4 and sum(len(item['pred_instances']['scores']) for item in predictions[0]) > 4
    for items in zip(*predictions):
        for key in ('bboxes', 'scores', 'labels'):
            first, *others = [torch.as_tensor(item['pred_instances'][key]) for item in items]
            assert all(torch.equal(first, other) for other in others), key


def test_frozen_by_mmdets_defaults(photos, detection_teacher, tmp_path):
    """frozen_stages=1 and norm_eval=True, as in mmdet's configs: layer1 is refused, with the mend."""
    from mmsskd.errors import ConfigError

    frozen = detector(width=4, **{'backbone.frozen_stages': 1, 'backbone.norm_eval': True})
    with pytest.raises(ConfigError, match=r"'layer1' has nothing to train.*set frozen_stages=-1"):
        train(detection_cfg(tmp_path, photos, detection_teacher, student=frozen))


def test_neck_in_the_head(photos, detection_teacher, tmp_path):
    cfg = detection_cfg(tmp_path, photos, detection_teacher)
    cfg.model.stages = STAGES[:-1]
    runner = train(cfg)
    assert {name.split('.')[0] for name in runner.model.parameters_of('head')} == {'neck', 'rpn_head', 'roi_head'}
    before, after = weights(tmp_path / 'phase4_layer4.pth'), weights(tmp_path / 'epoch_5.pth')
    assert not torch.equal(before['neck.lateral_convs.0.conv.weight'], after['neck.lateral_convs.0.conv.weight'])
    assert same(before, after, [name for name in before if name.startswith('backbone')])


def test_head_from_the_teacher(photos, tmp_path):
    """With the same neck channels the teacher's heads fit, and the head phase begins with them."""
    teacher = save_detector(detector(), tmp_path / 'teacher.pth')
    phases = [
        dict(train='neck'),
        dict(train='head', optim_wrapper=dict(optimizer=dict(type='SGD', lr=1e-12))),
    ]
    head = {'model.init_from_teacher': 'head'}
    runner = train(detection_cfg(tmp_path / 'run', photos, teacher, hook=dict(phases=phases), **head))
    state, theirs = runner.model.head_state(), weights(teacher)
    assert state and all(torch.allclose(value, theirs[name], atol=1e-6) for name, value in state.items())


def test_student_starts_from_a_checkpoint_strictly(photos, detection_teacher, tmp_path):
    start = save_detector(detector(width=4), tmp_path / 'start.pth', seed=5)
    cfg = detection_cfg(tmp_path / 'run', photos, detection_teacher, **{'model.student_checkpoint': start})
    cfg.default_hooks.stage_schedule.phases = [dict(train='neck')]
    runner = train(cfg)
    kept = [name for name in weights(start) if name.startswith(('backbone', 'rpn_head'))]
    assert same(weights(start), runner.model.student.state_dict(), kept)
    other = build_model(Config(dict(model=detector(width=4, num_classes=3))).model)
    with pytest.raises(Exception, match='other shape'):
        load_strictly(other, start, 'model.student_checkpoint')
