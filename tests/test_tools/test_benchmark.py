"""`tools/benchmark.py` on the digits and a small detector. Inside, the tool stops where the schemes do not do equal work."""

import json

import pytest
from helpers import ROOT, require_ops, warm_python

pytestmark = pytest.mark.slow

require_ops()

CONFIG = """
_base_ = 'mmdet::_base_/default_runtime.py'


def detector(depth, width):
    sampler = dict(type='RandomSampler', num=16, pos_fraction=0.5, add_gt_as_proposals=False)
    assigner = dict(type='MaxIoUAssigner', pos_iou_thr=0.5, neg_iou_thr=0.4, min_pos_iou=0.3)
    proposals = dict(nms_pre=50, max_per_img=20, nms=dict(type='nms', iou_threshold=0.7), min_bbox_size=0)
    coder = dict(type='DeltaXYWHBBoxCoder')
    return dict(
        type='FasterRCNN',
        data_preprocessor=dict(
            type='DetDataPreprocessor', mean=[123.0, 117.0, 104.0], std=[58.0, 57.0, 57.5], bgr_to_rgb=True,
            pad_size_divisor=32),
        backbone=dict(
            type='ResNet', depth=depth, base_channels=width, num_stages=4, out_indices=(0, 1, 2, 3), norm_eval=False),
        neck=dict(
            type='FPN', in_channels=[width, 2 * width, 4 * width, 8 * width], out_channels=2 * width, num_outs=5),
        rpn_head=dict(
            type='RPNHead', in_channels=2 * width, feat_channels=2 * width, bbox_coder=coder,
            anchor_generator=dict(type='AnchorGenerator', scales=[4], ratios=[1.0], strides=[4, 8, 16, 32, 64])),
        roi_head=dict(
            type='StandardRoIHead',
            bbox_roi_extractor=dict(
                type='SingleRoIExtractor', out_channels=2 * width, featmap_strides=[4, 8, 16, 32],
                roi_layer=dict(type='RoIAlign', output_size=7, sampling_ratio=0)),
            bbox_head=dict(
                type='Shared2FCBBoxHead', in_channels=2 * width, fc_out_channels=16, num_classes=3, bbox_coder=coder)),
        train_cfg=dict(
            rpn=dict(assigner=assigner, sampler=sampler, allowed_border=-1, pos_weight=-1),
            rpn_proposal=proposals,
            rcnn=dict(assigner=assigner, sampler=dict(sampler, add_gt_as_proposals=True), pos_weight=-1)),
        test_cfg=dict(
            rpn=proposals,
            rcnn=dict(score_thr=0.05, max_per_img=10, nms=dict(type='nms', iou_threshold=0.5))))


model = dict(
    type='mmsskd.StagewiseDistiller',
    _scope_='mmdet',
    teacher=detector(18, 16),
    teacher_checkpoint='not looked at',
    student=detector(18, 8),
    stages=['layer1', 'layer4', 'neck'],
    input_shape=(3, 64, 64),
)
optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.02, momentum=0.9, weight_decay=0.0001))
default_hooks = dict(
    stage_schedule=dict(type='mmsskd.StageScheduleHook', transfer=dict(epochs=1), head=dict(epochs=1)))
"""


def test_benchmark_of_a_detection_pair_has_the_neck_and_the_head(tmp_path):
    config, out = tmp_path / 'pair.py', tmp_path / 'figures.json'
    config.write_text(CONFIG)
    # 90 is no multiple of 32: the loop by hand must pad as the preprocessor does
    arguments = ('--shape', 90, 128, '--batch-size', 2, '--rounds', 1, '--head', '--json', out)
    result = warm_python(ROOT / 'tools/benchmark.py', config, *arguments)
    assert result.returncode == 0, result.stderr
    rows = {row['stage']: row for row in json.loads(out.read_text())}
    assert list(rows) == ['layer1', 'layer4', 'neck', 'head']
    for name, row in rows.items():
        schemes = ['mmsskd', 'stock'] if name == 'head' else ['mmsskd', 'bare', 'full', 'unfrozen']
        for kind in ('seconds', 'memory'):
            found = {key: value for key, value in row[kind].items() if key != 'torchdistill'}
            assert list(found) == schemes and min(row[kind].values()) > 0
        assert row['memory']['mmsskd'] <= 1.1 * row['memory']['stock' if name == 'head' else 'bare'], name
    first = rows['layer1']['memory']
    assert first['full'] > 1.1 * first['mmsskd'], 'the first stage keeps the least of a forward'
    lines = [line.split()[0] for line in result.stdout.splitlines() if ' ms ' in line]
    assert lines == ['layer1', 'layer4', 'sum', 'neck', 'head'], 'the sum is that of the backbone'
    assert 'batch 2 of 3x90x128' in result.stdout


def test_benchmark_does_equal_work_and_needs_no_more_memory_than_full_forwards(tmp_path):
    """The three schemes are compared step by step inside the tool, which stops where their losses or what they train differ."""
    config = ROOT / 'configs/sskd/digits_r14x2_r8.py'
    out = tmp_path / 'figures.json'
    arguments = ('--batch-size', 4, '--rounds', 1, '--runner', '--profile', '--json', out)
    result = warm_python(ROOT / 'tools/benchmark.py', config, *arguments)
    assert result.returncode == 0, result.stderr
    rows = json.loads(out.read_text())
    assert [row['stage'] for row in rows] == ['layer1', 'layer2', 'layer3']
    for row in rows:
        assert all(seconds > 0 for seconds in row['seconds'].values())
        assert row['memory']['mmsskd'] <= min(1.001 * row['memory']['full'], 1.1 * row['memory']['bare'])
        assert row['seconds']['runner'] > row['data']['runner'] > 0
        steps = row['profile']
        assert list(steps) == ['mmsskd', 'bare'] and 'number of waits' in steps['mmsskd'], steps
        assert steps['mmsskd']['number of operations'] > steps['bare']['number of operations'] > 50, steps
        assert 0 < steps['bare']['operations'] < steps['bare']['step'], steps
    assert rows[0]['memory']['mmsskd'] < 0.95 * rows[0]['memory']['full'], (
        'the first stage keeps the least of a forward'
    )
    assert 'sum / highest' in result.stdout and 'runner/bare' in result.stdout
    assert 'dearest operations' in result.stdout and 'aten::convolution_backward' in result.stdout


def test_benchmark_says_which_networks_it_knows(tmp_path):
    result = warm_python(ROOT / 'tools/benchmark.py', ROOT / 'configs/plain/digits_r8.py')
    assert result.returncode == 1 and 'is not the config of a stage-by-stage run' in result.stderr
