"""A projector that stays in the student: where it stands, what trains it, and that the student with it is an ordinary model."""

import copy
import sys
from pathlib import Path

import pytest
import torch
from detection import STAGES, detector, save_detector
from distill_helpers import IMAGES, build, phase
from face import recognizer, save_recognizer
from helpers import classifier, run_cfg, same, train, weights
from mmengine.config import Config
from torch import nn

from mmsskd.distill.build import build_model
from mmsskd.distill.export import export_checkpoint, plain_config
from mmsskd.distill.losses import FeatureMimicLoss
from mmsskd.distill.network.projector import BottleneckProjector
from mmsskd.errors import ConfigError

PROJECTOR = dict(type='mmsskd.BottleneckProjector', reduction=2)
NARROW = classifier(depth=8, width=0.25)


def names(module) -> list[str]:
    return [type(layer).__name__ for layer in module.layers]


def test_the_bottleneck_is_that_of_simkd():
    projector = BottleneckProjector(in_channels=6, out_channels=32, reduction=4)
    assert names(projector) == ['Conv2d', 'BatchNorm2d', 'ReLU'] * 3
    convs = [layer for layer in projector.layers if isinstance(layer, nn.Conv2d)]
    assert [tuple(conv.weight.shape) for conv in convs] == [(8, 6, 1, 1), (8, 8, 3, 3), (32, 8, 1, 1)]
    assert all(conv.bias is None for conv in convs)
    assert projector(torch.zeros(2, 6, 5, 5)).shape == (2, 32, 5, 5)
    levels = projector([torch.zeros(2, 6, 5, 5), torch.zeros(2, 6, 3, 3)])
    assert [tuple(level.shape) for level in levels] == [(2, 32, 5, 5), (2, 32, 3, 3)]


def test_levels_of_different_scale_are_learned_through_the_same_layers():
    """Norms that the levels share can give them one scale only: through them 0.95 of an FPN stayed unlearned."""
    torch.manual_seed(0)
    projector = BottleneckProjector(in_channels=4, out_channels=4, reduction=1, last_relu=False, levels=2)
    optimizer = torch.optim.Adam(projector.parameters(), lr=0.02)
    levels = [torch.randn(8, 4, 6, 6), torch.randn(8, 4, 3, 3)]
    targets = [levels[0], 0.2 * levels[1] - 1]
    loss = FeatureMimicLoss()
    for _ in range(150):
        optimizer.zero_grad()
        loss(projector(levels), targets).backward()
        optimizer.step()
    with torch.no_grad():
        errors = [loss([student], [target]).item() for student, target in zip(projector.eval()(levels), targets)]
    assert max(errors) < 0.5, errors


@pytest.mark.parametrize('shape', [(4, 6), (4, 5, 6)])
def test_of_vectors_and_tokens_it_is_linear(shape):
    projector = BottleneckProjector(in_channels=6, out_channels=8, maps=False, last_relu=False)
    assert names(projector) == ['Linear', 'LastNorm', 'ReLU', 'Linear', 'LastNorm', 'ReLU', 'Linear', 'LastNorm']
    out = projector(torch.randn(shape))
    assert out.shape == (*shape[:-1], 8) and (out < 0).any()


@pytest.mark.parametrize('reduction', [0, 33, 1.5, True, '2'])
def test_a_reduction_that_is_none(reduction, teacher_path):
    with pytest.raises(ConfigError, match=r'projector.reduction must be a whole number from 1 to 32, found'):
        build(teacher_path, student=NARROW, projector=dict(PROJECTOR, reduction=reduction))


@pytest.mark.parametrize('width', [0.25, 0.5])
def test_it_stands_in_front_of_the_pooling_and_trains_with_the_last_stage(width, teacher_path):
    model = build(teacher_path, student=classifier(depth=8, width=width), projector=PROJECTOR, init_from_teacher='head')
    model.init_weights()
    assert model.student.head.fc.in_features == 32 and model.adapter_of('layer3') is None
    assert list(model.stages) == ['layer1', 'layer2', 'layer3']
    last = model.stages['layer3']
    assert last.tap == 'neck.projector' and last.shapes == ((32, 2, 2),) == model.teacher_stages['layer3'].shapes
    own = {name for name in dict(model.student.named_parameters()) if name.startswith('neck.projector.')}
    assert len(own) == 9 and own < set(last.parameters) and own.isdisjoint(model.parameters_of('head'))
    assert same(model.student.head.state_dict(), model.teacher.head.state_dict())

    phase(model, train='layer1').train()
    assert not any(parameter.requires_grad for parameter in model.student.neck.parameters())
    assert not any(module.training for module in model.student.neck.modules())
    phase(model, train='layer3').train()
    loss = model.parse_losses(model(IMAGES, None, mode='loss'))[0]
    loss.backward()
    assert all(dict(model.student.named_parameters())[name].grad.any() for name in own)
    assert model.student.head.fc.weight.grad is None
    assert all(module.training for module in model.student.neck.projector.modules())
    # what the stage mimics is what the head gets
    model.eval()
    feature, _ = model.compare(IMAGES, ['layer3'])['layer3']
    with torch.no_grad():
        assert torch.equal(model(IMAGES, mode='tensor'), model.student.head.fc(feature[0].mean((2, 3))))


def test_a_relu_ends_it_only_where_the_feature_of_the_teacher_is_not_negative(tmp_path):
    teacher, student = recognizer(), recognizer(4, neck=dict(recognizer(4)['neck'], num_features=8))
    model = build(
        save_recognizer(teacher, tmp_path / 'face.pth'), teacher=teacher, student=student, projector=PROJECTOR,
        init_from_teacher='head', input_shape=(3, 32, 32),
    )  # fmt: skip
    assert list(model.stages)[-1] == 'neck' and model.stages['neck'].shapes == ((16,),)
    assert names(model.student.neck.projector)[-1] == 'LastNorm'
    assert model.student.eval()(torch.randn(2, 3, 32, 32)).shape == (2, 16)
    phase(model, train='neck', mimic='neck').train()
    model.parse_losses(model(torch.randn(4, 3, 32, 32), None, mode='loss'))[0].backward()
    assert model.student.neck.projector.layers[0].weight.grad.any() and model.student.neck.fc.weight.grad.any()
    assert {'neck.fc.weight', 'neck.projector.layers.0.weight'} <= set(model.student.state_dict())


def test_after_an_fpn_its_levels_share_it_and_the_heads_are_those_of_the_teacher(tmp_path):
    teacher, student = detector(), detector(width=4, channels=8)
    path = save_detector(teacher, tmp_path / 'detector.pth')
    model = build(
        path, teacher=teacher, student=student, projector=PROJECTOR, stages=STAGES, init_from_teacher='head',
        input_shape=(3, 64, 64),
    )  # fmt: skip
    model.init_weights()
    shapes = model.teacher_stages['neck'].shapes
    assert len(shapes) == 4 and model.stages['neck'].shapes == shapes
    assert model.student.neck.lateral_convs[0].conv.out_channels == 8
    assert [norm.num_features for norm in model.student.neck.projector.layers[-1]] == [16] * 4
    assert same(model.student.rpn_head.state_dict(), model.teacher.rpn_head.state_dict())
    phase(model, train='neck', mimic='neck').train()
    model.parse_losses(model(torch.randn(2, 3, 64, 64), None, mode='loss'))[0].backward()
    assert model.student.neck.projector.layers[0].weight.grad.any()
    with pytest.raises(ConfigError, match=r"gives 4 features, and only one can be .*end model.stages in 'neck'"):
        build(path, teacher=teacher, student=student, projector=PROJECTOR, stages=STAGES[:4], input_shape=(3, 64, 64))


@pytest.fixture(scope='module')
def run(tmp_path_factory, teacher_path):
    """Each stage alone with projector and the teacher's head, nothing else."""
    folder = tmp_path_factory.mktemp('projector')
    stages = ['layer1', 'layer2', 'layer3']
    cfg = run_cfg(folder, teacher_path, student=NARROW, hook=dict(phases=[dict(train=stage) for stage in stages]))
    cfg.model.update(projector=PROJECTOR, init_from_teacher='head')
    return train(cfg), folder


def test_a_run_ends_in_a_plain_student_with_its_projector(run, teacher_path):
    runner, folder = run
    student = Config.fromfile(folder / 'student.py')
    assert student.model.neck.type == 'mmsskd.ProjectedNeck' and student.model.head.in_channels == 32
    assert student.custom_imports.imports == ['mmsskd']
    saved = weights(folder / 'student.pth')
    model = build_model(student.model)
    model.load_state_dict(saved)
    with torch.no_grad():
        expected = runner.model.student.eval()(IMAGES, mode='tensor')
        assert torch.equal(model.eval()(IMAGES, mode='tensor'), expected)
    assert same(saved, weights(teacher_path), [name for name in saved if name.startswith('head.')])
    # frozen until its stage trains
    first, second = (weights(folder / f'phase{i}_layer{i}.pth') for i in (1, 2))
    own = [name for name in saved if name.startswith('neck.')]
    assert own and same(first, second, own) and not same(second, saved, own)


@pytest.mark.slow
def test_what_needs_mmsskd_is_said_in_one_line_and_onnx_needs_nobody(run, tmp_path):
    onnxruntime = pytest.importorskip('onnxruntime')
    pytest.importorskip('onnxscript')
    runner, folder = run
    said = '# Stock mmpretrain cannot build mmsskd.CIFARResNet, mmsskd.ProjectedNeck, mmsskd.BottleneckProjector'
    assert [line.startswith(said) for line in (folder / 'student.py').read_text().splitlines()[:2]] == [True, False]
    paths = export_checkpoint(str(folder / 'epoch_3.pth'), str(tmp_path / 'out'), formats=['onnx'])
    assert [Path(path).name for path in paths] == ['student.pth', 'student.py', 'student.onnx']
    session = onnxruntime.InferenceSession(paths[2], providers=['CPUExecutionProvider'])
    with torch.no_grad():
        expected = runner.model.student.eval()(IMAGES, mode='tensor')
    (found,) = session.run(None, {'input': IMAGES.numpy()})
    assert found.shape == (4, 10)
    torch.testing.assert_close(torch.from_numpy(found), expected, rtol=0, atol=1e-4)


def test_a_missing_package_of_onnx_is_named_before_anything_is_written(run, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, 'onnxruntime', None)
    with pytest.raises(
        ConfigError, match=r'ONNX needs onnxruntime, which is not installed: pip install mmsskd\[onnx\]'
    ):
        export_checkpoint(str(run[1] / 'epoch_3.pth'), str(tmp_path / 'out'), formats=['onnx'])
    assert not list(tmp_path.iterdir())


def test_a_resumed_run_equals_an_uninterrupted_one(run, teacher_path, tmp_path):
    cfg = copy.deepcopy(run[0].cfg)
    cfg.merge_from_dict(dict(work_dir=str(tmp_path), experiment_name=f'{cfg.experiment_name}_resumed'))
    cfg.resume, cfg.load_from = True, str(run[1] / 'phase2_layer2.pth')
    train(cfg)
    assert same(weights(tmp_path / 'student.pth'), weights(run[1] / 'student.pth'))


@pytest.mark.slow
def test_then_all_trains_it_with_the_head(teacher_path, tmp_path):
    hook = dict(phases='sskd_then_all')
    cfg = run_cfg(tmp_path, teacher_path, student=NARROW, hook=hook)
    cfg.model.update(projector=PROJECTOR, init_from_teacher='head')
    train(cfg)
    before, after = weights(next(tmp_path.glob('phase3_*.pth'))), weights(tmp_path / 'student.pth')
    assert not same(before, after, ['neck.projector.layers.0.weight', 'head.fc.weight'])


def test_the_student_starts_from_all_of_the_teacher_but_the_projector(teacher_path):
    model = build(teacher_path, projector=PROJECTOR, init_from_teacher='all')
    model.init_weights()
    assert same(model.student.head.state_dict(), model.teacher.head.state_dict())
    assert torch.equal(model.student.backbone.conv1.weight, model.teacher.backbone.conv1.weight)


@pytest.mark.parametrize(
    'changes, message',
    [
        (dict(projector='mmsskd.BottleneckProjector'), r'model.projector must be a config such as dict\(type='),
        (dict(projector=dict(PROJECTOR, red=2)), r'neck.projector cannot be built: .*red'),
        (dict(stages=['layer1', 'head']), r"the last stage is 'head'"),
        (dict(stages=['layer3', 'neck.0']), r"the last stage is 'neck.0'"),
        (dict(student=dict(NARROW, head=None)), r'found none of the student and head of the teacher'),
        (dict(input_shape=(3, 8, 8)), r'does not run on an input of shape \(1, 3, 8, 8\)'),
    ],
)
def test_what_is_refused(changes, message, teacher_path):
    with pytest.raises(ConfigError, match=message):
        build(teacher_path, **dict(dict(student=NARROW, projector=PROJECTOR), **changes))


def test_the_config_of_the_run_stays_as_it_is(teacher_path, tmp_path):
    cfg = run_cfg(tmp_path, teacher_path, student=NARROW)
    cfg.model.projector = PROJECTOR
    before = copy.deepcopy(cfg.to_dict())
    torch.manual_seed(0)
    drawn = torch.get_rng_state()
    plain = plain_config(cfg)
    assert torch.equal(torch.get_rng_state(), drawn) and cfg.to_dict() == before
    assert plain.model.neck.projector.in_channels == 16 and plain.model.neck.projector.out_channels == 32
    assert plain_config(cfg, 'teacher').model.neck.type.endswith('GlobalAveragePooling')


def test_the_recipe_without_labels_trains_through_the_head_of_the_teacher(teacher_path, tmp_path):
    """Raw L2 of the last feature and 0.1 of the divergence at T = 4, in one phase."""
    both = dict(train='stages', mimic='layer3', logits=True, task_loss=False)
    cfg = run_cfg(tmp_path, teacher_path, student=NARROW, hook=dict(phases=[both]))
    cfg.model.update(
        projector=PROJECTOR,
        init_from_teacher='head',
        mimic_loss=dict(type='mmsskd.FeatureMimicLoss', normalize='none'),
        logits=dict(module='head.fc', loss=dict(type='mmsskd.LogitsKDLoss', temperature=4.0, loss_weight=0.1)),
    )
    runner = train(cfg)
    saved = weights(tmp_path / 'student.pth')
    assert same(saved, weights(teacher_path), [name for name in saved if name.startswith('head.')])
    assert runner.message_hub.get_scalar('val/accuracy/top1').current() >= 0  # the student predicts already
    # by hand, on the weights that it ended with, in eval mode
    model = phase(runner.model, **both).eval()
    with torch.no_grad():
        losses = model(IMAGES, None, mode='loss')
        feature, logits = (f(model.student) for f in (_last_feature, lambda net: net(IMAGES, mode='tensor')))
        theirs, theirs_logits = model.teacher.extract_feat(IMAGES, stage='backbone')[-1], model.teacher(IMAGES)
        divergence = nn.functional.kl_div(
            (logits / 4).log_softmax(1), (theirs_logits / 4).log_softmax(1), reduction='batchmean', log_target=True
        )
    assert {name for name in losses if 'loss' in name} == {'loss_mimic_layer3', 'loss_logits'}
    assert losses['loss_mimic_layer3'].item() == pytest.approx((feature - theirs).square().mean().item(), rel=1e-5)
    assert losses['loss_logits'].item() == pytest.approx(0.1 * 16 * divergence.item(), rel=1e-4, abs=1e-7)


def _last_feature(student):
    return student.neck.projector(student.extract_feat(IMAGES, stage='backbone'))[-1]
