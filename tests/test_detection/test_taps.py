"""Where a detector's features are taken: the neck alone, one of its levels, modules of a dense head that run once a level."""

import pytest
import torch
from detection import detection_cfg, detector, save_detector
from helpers import same, train, weights
from mmdet.structures import DetDataSample
from mmengine.optim import OptimWrapper
from mmengine.registry import MODELS
from mmengine.structures import InstanceData
from torch.optim import SGD

from mmsskd.distill.build import build_model, load_strictly, resolve_model_cfg
from mmsskd.distill.export import plain_config
from mmsskd.distill.network.forward import capture, features_at
from mmsskd.distill.network.stages import find_stages, taps_of
from mmsskd.distill.phases import HEAD, phases_of
from mmsskd.errors import ConfigError

IMAGES = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
TOWER = 'bbox_head.cls_convs.1.conv'


def dense(width=4, channels=16) -> dict:
    """GFL with a narrow ResNet-18: P3 to P7, two convolutions a tower."""
    return resolve_model_cfg(
        dict(
            cfg_path='mmdet::gfl/gfl_r50_fpn_1x_coco.py',
            data_preprocessor=detector()['data_preprocessor'],
            backbone=dict(detector()['backbone'], base_channels=width, _delete_=True),
            neck=dict(in_channels=[width * 2**i for i in range(4)], out_channels=channels),
            bbox_head=dict(
                num_classes=10,
                in_channels=channels,
                feat_channels=channels,
                stacked_convs=2,
                norm_cfg=dict(type='GN', num_groups=4),
            ),
        ),
        'student',
    )


@pytest.fixture(scope='module')
def teacher_path(tmp_path_factory):
    return save_detector(dense(), tmp_path_factory.mktemp('teacher') / 'dense.pth')


@pytest.fixture(scope='module')
def model():
    torch.manual_seed(0)
    return build_model(dense()).eval()


def distiller(teacher_path, stages, student=None, teacher=None, **options):
    cfg = dict(type='mmsskd.StagewiseDistiller', teacher=teacher or dense(), teacher_checkpoint=teacher_path)
    torch.manual_seed(0)
    return MODELS.build(dict(cfg, student=student or dense(), stages=stages, input_shape=(3, 64, 64), **options))


def in_phase(model, **phase):
    run = dict(train_cfg=dict(by_epoch=True), optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1)))
    model.set_phase(phases_of(run, list(model.stages), dict(phases=[dict(phase, epochs=1)]))[0])
    return model.train()


def owners(model) -> dict[str, str]:
    """The part that each parameter belongs to, which must be one."""
    found = [(name, part) for part in (*model.stages, HEAD) for name in model.parameters_of(part)]
    assert sorted(name for name, _ in found) == sorted(name for name, _ in model.student.named_parameters())
    return dict(found)


def test_the_neck_alone_is_a_stage(teacher_path):
    """It takes the backbone with it."""
    model = in_phase(distiller(teacher_path, ['neck']), train='neck')
    parts = owners(model)
    assert {name.split('.')[0] for name, part in parts.items() if part == 'neck'} == {'backbone', 'neck'}
    assert {name.split('.')[0] for name, part in parts.items() if part == HEAD} == {'bbox_head'}
    model(IMAGES, mode='loss')['loss_mimic_neck'].backward()
    moved = {name for name, parameter in model.student.named_parameters() if parameter.grad is not None}
    assert moved == {name for name, part in parts.items() if part == 'neck'}


def test_a_stage_in_the_head_alone_takes_all_before_it(teacher_path):
    parts = owners(distiller(teacher_path, ['bbox_head.gfl_cls']))
    before = {name for name, part in parts.items() if part != HEAD}
    assert {name.split('.')[0] for name in before} == {'backbone', 'neck', 'bbox_head'}
    assert {name.split('.')[1] for name in before if name.startswith('bbox_head')} == {'cls_convs', 'gfl_cls'}


def test_single_levels_of_a_neck(teacher_path):
    """Each is the neck's tensor; what only others need of the neck trains with the head."""
    model = distiller(teacher_path, ['neck.0', 'neck.2'])
    assert [stage.shapes for stage in model.stages.values()] == [((16, 8, 8),), ((16, 2, 2),)]
    parts = owners(model)
    convs = [parts[f'neck.fpn_convs.{i}.conv.weight'] for i in range(5)]
    assert convs == ['neck.0', HEAD, 'neck.2', HEAD, HEAD]
    with torch.no_grad():
        whole = model.teacher.extract_feat(IMAGES)
    for name, (_, feature) in model.compare(IMAGES, list(model.stages)).items():
        assert torch.equal(feature[0], whole[int(name[-1])])
    losses = in_phase(model, train='neck.0', mimic=['neck.0', 'neck.2'])(IMAGES, mode='loss')
    assert {'loss_mimic_neck.0', 'loss_mimic_neck.2'} <= set(losses)
    assert not model.student.neck.fpn_convs[1].training and model.student.neck.fpn_convs[0].training
    in_phase(model, train='head')
    assert model.student.neck.fpn_convs[1].training and not model.student.neck.fpn_convs[0].training


def test_a_module_of_the_head_gives_one_tensor_a_level(model):
    """As the whole head gives them, and nothing runs past the last level's."""
    stages = find_stages(model, ['neck', TOWER, 'bbox_head.gfl_cls'], IMAGES[:1])
    assert [len(stage.levels) for stage in stages] == [5, 5, 5]
    assert [shape[1:] for shape in stages[1].shapes] == [(8, 8), (4, 4), (2, 2), (1, 1), (1, 1)]
    with torch.no_grad(), capture(model, taps_of(stages)) as whole:
        model.bbox_head(model.extract_feat(IMAGES))
    ran = []
    handle = model.bbox_head.gfl_reg.register_forward_hook(lambda *_: ran.append(1))
    with torch.no_grad():
        cut = features_at(model, IMAGES, taps_of(stages))
    handle.remove()
    assert len(ran) == 4  # not on the fifth level, where gfl_cls comes first
    for stage in stages:
        assert all(map(torch.equal, stage.feature(cut), stage.feature(whole)))


def test_towers_and_logits_follow_the_teacher(teacher_path):
    """CWD on a classification tower, with an adapter, and on the maps of logits; both with the task loss running the head."""
    student = dense()
    student['bbox_head'].update(feat_channels=8)
    losses = {'bbox_head.gfl_cls': dict(type='mmsskd.CWDLoss')}
    model = distiller(teacher_path, ['neck', TOWER, 'bbox_head.gfl_cls'], student, mimic_loss=losses)
    assert model.adapter_of(TOWER) is not None and model.adapter_of('bbox_head.gfl_cls') is None
    parts = owners(model)
    assert parts['bbox_head.cls_convs.1.conv.weight'] == parts['bbox_head.cls_convs.0.gn.weight'] == TOWER
    assert parts['bbox_head.cls_convs.1.gn.weight'] == parts['bbox_head.gfl_cls.bias'] == 'bbox_head.gfl_cls'
    assert parts['bbox_head.reg_convs.0.conv.weight'] == parts['bbox_head.gfl_reg.weight'] == HEAD
    in_phase(model, train='stages')
    alone = model(IMAGES, mode='loss')
    values = model.compare(IMAGES, list(model.stages))
    assert [len(pair[0]) for pair in values.values()] == [5, 5, 5]
    assert model.student.bbox_head.training and not model.student.bbox_head.reg_convs[0].training
    in_phase(model, train='head')
    assert model.student.bbox_head.training and model.student.bbox_head.reg_convs[0].training
    assert not model.student.bbox_head.cls_convs[0].training
    assert alone['loss_mimic_bbox_head.gfl_cls'].isfinite()


@pytest.mark.parametrize('kind', ['gfl', 'faster_rcnn'])
def test_boxes_weigh_each_level_in_a_phase_without_task_loss(teacher_path, tmp_path, kind):
    """The real step, from images and boxes as a loader gives them: a batch padded to 64x64 whose box lies in the first image."""
    wanted = dict(type='mmsskd.ForegroundMimicLoss', background=0)
    if kind == 'gfl':
        model = distiller(teacher_path, ['neck'], mimic_loss=wanted)
    else:
        path = save_detector(detector(), tmp_path / 'teacher.pth')
        model = distiller(path, ['neck'], detector(), teacher=detector(), mimic_loss=wanted)
    in_phase(model, train='neck')
    box = torch.tensor([[4.0, 10.0, 30.0, 20.0]])
    samples = [DetDataSample(metainfo=dict(img_shape=size)) for size in ((48, 64), (64, 40))]
    for sample, boxes in zip(samples, (box, box[:0])):
        sample.gt_instances = InstanceData(bboxes=boxes, labels=torch.zeros(len(boxes), dtype=torch.long))
    images = [torch.randint(0, 256, (3, *sample.img_shape), dtype=torch.uint8) for sample in samples]
    batch = model.data_preprocessor(dict(inputs=images, data_samples=samples), True)
    found = model(**batch, mode='loss')['loss_mimic_neck']
    (student, teacher), levels = model.compare(batch['inputs'], ['neck'])['neck'], []
    for s, t in zip(student, teacher):
        stride = 64 // s.shape[-1]
        rows, columns = (slice(int(a // stride), -int(-b // stride)) for a, b in ((10, 20), (4, 30)))
        inside = (s - t)[0, :, rows, columns].square().mean()  # the one box; the background counts for nothing
        levels.append(inside / t.var((0, 2, 3), correction=0).mean())
    assert len(levels) == len(model.student.neck(model.student.backbone(batch['inputs']))) > 3
    torch.testing.assert_close(found, torch.stack(levels).mean(), rtol=1e-3, atol=0)
    found.backward()
    assert all(model.student.get_parameter(name).grad is not None for name in model.stages['neck'].parameters)
    assert model.train_step(dict(inputs=images, data_samples=samples), OptimWrapper(SGD(model.parameters(), 0.1)))


def test_what_cannot_be_a_tap_says_so(model):
    for names, message in [
        (['neck.5'], r"'neck.5' is not there: 'neck' gives 5 tensors, 0 to 4"),
        (['neck.1', 'neck.1'], 'names a stage twice'),
        (['bbox_head.gfl_clas'], "no module 'bbox_head.gfl_clas'; did you mean 'bbox_head.gfl_cls'"),
        (['bbox_head.gfl_cls', TOWER], 'not in the order in which they run'),
        (['layer9'], "no module 'layer9'"),
        (['bbox_head.cls_convs'], "'bbox_head.cls_convs' runs 0 times"),
    ]:
        with pytest.raises(ConfigError, match=message):
            find_stages(model, names, IMAGES[:1])
    with pytest.raises(
        ConfigError, match=r"'roi_head', \w+, does not run on the features alone .* no stage can end in it"
    ):
        find_stages(
            build_model(resolve_model_cfg(detector(), 'student')), ['neck', 'roi_head.bbox_head.fc_cls'], IMAGES[:1]
        )


@pytest.mark.slow
def test_run_through_a_head_and_all_at_once(photos, teacher_path, tmp_path):
    """A stage in the head alone, then everything with the task loss (PKD's recipe); frozen bits, strict export."""
    cfg = detection_cfg(tmp_path, photos, teacher_path, teacher=dense(), student=dense())
    cfg.model.update(stages=['neck', 'bbox_head.gfl_cls'], mimic_loss=dict(type='mmsskd.PKDLoss'))
    cfg.default_hooks.stage_schedule.phases = [
        dict(name='cls', train='bbox_head.gfl_cls'),
        dict(train='all', mimic='neck', task_loss=True),
    ]
    cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None
    runner = train(cfg)
    first, last = weights(tmp_path / 'phase1_cls.pth'), weights(tmp_path / 'epoch_2.pth')
    parts = owners(runner.model)
    start = runner.build_model(cfg.model).state_dict()
    assert set(first) == set(start)
    assert not same(first, last, [name for name, part in parts.items() if part == 'neck'])
    plain = plain_config(runner.cfg)
    load_strictly(build_model(plain.model), str(tmp_path / 'student.pth'), 'student.pth')
