"""Learning from the teacher's logits: the loss against Hinton's formula in numpy, what runs, what trains, what is refused."""

import json

import numpy as np
import pytest
import torch
from distill_helpers import IMAGES, build, phase, samples
from helpers import classifier, run_cfg, same, save_weights, train, weights
from mmengine.runner import Runner

from mmsskd.distill import LogitsKDLoss
from mmsskd.errors import ConfigError


def softmax(logits, temperature):
    shifted = np.exp((logits - logits.max(1, keepdims=True)) / temperature)
    return shifted / shifted.sum(1, keepdims=True)


def kd(student, teacher, temperature=4.0, weight=0.9):
    """Value, and gradient with respect to the student's logits, in numpy: T (p_s - p_t) / N."""
    s, t = (x.detach().double().numpy() for x in (student, teacher))
    p, q = softmax(s, temperature), softmax(t, temperature)
    value = weight * temperature**2 * (q * (np.log(q) - np.log(p))).sum(1).mean()
    return value, weight * temperature * (p - q) / len(s)


@pytest.mark.parametrize(('temperature', 'weight'), [(4.0, 0.9), (1.0, 1.0), (20.0, 0.5)])
def test_value_and_gradient(temperature, weight):
    generator = torch.Generator().manual_seed(0)
    student, teacher = (5 * torch.randn(6, 10, generator=generator) for _ in range(2))
    student.requires_grad_()
    teacher.requires_grad_()
    loss = LogitsKDLoss(temperature, weight)(student, teacher)
    loss.backward()
    value, gradient = kd(student, teacher, temperature, weight)
    assert loss.item() == pytest.approx(value, rel=1e-5)
    np.testing.assert_allclose(student.grad.numpy(), gradient, atol=1e-6)
    assert teacher.grad is None


def test_computed_in_fp32_outside_autocast():
    student, teacher = torch.randn(4, 10).bfloat16(), torch.randn(4, 10).bfloat16()
    with torch.autocast('cpu', dtype=torch.bfloat16):
        loss = LogitsKDLoss()(student, teacher)
    assert loss.dtype == torch.float32 and loss.item() == pytest.approx(kd(student, teacher)[0], rel=1e-5)


def test_temperature_must_be_above_zero():
    with pytest.raises(ConfigError, match=r'LogitsKDLoss.temperature must be a number above 0, found 0'):
        LogitsKDLoss(temperature=0)


def counted(model):
    """How often the first layer, the logits layer, of the teacher runs."""
    ran = []
    for path in ('backbone.conv1', 'head.fc'):
        model.teacher.get_submodule(path).register_forward_hook(lambda m, a, o, path=path: ran.append(path))
    return ran


def test_head_from_logits_alone_needs_no_labels(teacher_path):
    model = phase(build(teacher_path, logits='head.fc'), train='head', logits=True, task_loss=False).train()
    ran = counted(model)
    losses = model(IMAGES, None, mode='loss')
    assert set(losses) == {'loss_logits'} and ran == ['backbone.conv1', 'head.fc']
    own, theirs = (getattr(model, side)(IMAGES) for side in ('student', 'teacher'))
    assert losses['loss_logits'].item() == pytest.approx(kd(own, theirs)[0], rel=1e-3)
    losses['loss_logits'].backward()
    assert {name for name, p in model.named_parameters() if p.grad is not None} == {
        'student.head.fc.weight',
        'student.head.fc.bias',
    }
    np.testing.assert_allclose(model.student.head.fc.bias.grad.numpy(), kd(own, theirs)[1].sum(0), atol=1e-6)


def test_logits_features_and_task_from_one_forward_of_each(teacher_path):
    fields = dict(train='all', mimic=['layer1', 'layer3'], logits=True, task_weight=0.1)
    model = build(teacher_path, logits=dict(module='head.fc', loss=dict(type='mmsskd.LogitsKDLoss', temperature=2.0)))
    phase(model, **fields).train()
    ran, passes = counted(model), []
    model.student.backbone.conv1.register_forward_hook(lambda m, a, o: passes.append(1))
    losses = model(IMAGES, samples(), mode='loss')
    assert ran == ['backbone.conv1', 'head.fc'] and passes == [1]
    assert {key for key in losses if 'loss' in key} == {'loss', 'loss_logits', 'loss_mimic_layer1', 'loss_mimic_layer3'}
    model.parse_losses(losses)[0].backward()
    assert all(p.grad is not None for p in model.student.parameters())
    own = model.student(IMAGES)  # BN in training mode: the same batch gives the same logits
    theirs = model.teacher(IMAGES)
    assert losses['loss_logits'].item() == pytest.approx(kd(own, theirs, temperature=2.0)[0], rel=1e-3)
    truth = -np.log(softmax(own.detach().double().numpy(), 1.0)[range(4), range(4)]).mean()
    assert losses['loss'].item() == pytest.approx(
        0.1 * truth, rel=1e-5
    )  # Hinton: 0.1 of the labels, 0.9 of the teacher


def test_task_weight_scales_losses_and_nothing_else(teacher_path):
    """A model of mmdet returns lists of losses, and numbers that are only logged."""
    model = phase(build(teacher_path), train='head', task_weight=0.5)
    returned = dict(
        loss_cls=[torch.tensor(2.0), torch.tensor(4.0)], loss_bbox=torch.tensor(8.0), acc=torch.tensor(16.0)
    )
    model.student.forward = lambda *args, **kwargs: returned
    losses = model.loss(IMAGES, None)
    assert losses == dict(loss_cls=[1.0, 2.0], loss_bbox=4.0, acc=16.0)
    assert returned['loss_bbox'] == 8.0


def test_run_trains_the_head_alone_and_measures_it(tmp_path, teacher_path):
    """The layers before it keep every bit, the teacher too, and the head comes nearer to the teacher's."""
    sgd = dict(optimizer=dict(type='SGD', lr=20.0))
    phases = [dict(train='layer1'), dict(train='head', logits=True, task_loss=False, epochs=4, optim_wrapper=sgd)]
    cfg = run_cfg(tmp_path, teacher_path, hook=dict(phases=phases))
    cfg.model.logits = 'head.fc'
    runner = train(cfg)
    before, after = weights(tmp_path / 'phase1_layer1.pth'), runner.model.state_dict()
    assert {name for name in before if not torch.equal(before[name], after[name])} == {'head.fc.weight', 'head.fc.bias'}
    assert same(weights(teacher_path), runner.model.teacher.state_dict())
    lines = [json.loads(line) for line in next(tmp_path.glob('*/vis_data/scalars.json')).read_text().splitlines()]
    losses = [line['loss_logits'] for line in lines if 'loss_logits' in line]
    assert np.mean(losses[-3:]) < 0.9 * np.mean(losses[:3])
    assert sum('accuracy/top1' in line for line in lines) == 4  # in each epoch of this phase, in none of the transfer


@pytest.mark.slow
def test_resumed_run(tmp_path, teacher_path):
    def cfg(folder):
        phases = [dict(train='layer1'), dict(train='all', logits=True, task_weight=0.1, epochs=2)]
        cfg = run_cfg(tmp_path / folder, teacher_path, hook=dict(phases=phases))
        cfg.model.logits = 'head.fc'
        return cfg

    train(cfg('whole'))
    cut = cfg('cut')
    cut.resume, cut.load_from = True, str(tmp_path / 'whole/epoch_2.pth')
    train(cut)
    assert same(weights(tmp_path / 'whole/epoch_3.pth'), weights(tmp_path / 'cut/epoch_3.pth'))
    cut.default_hooks.stage_schedule.phases[1].pop('logits')
    cut.work_dir = str(tmp_path / 'changed')
    with pytest.raises(ConfigError, match='Phase 2: logits is False, was True'):
        Runner.from_cfg(cut).train()


@pytest.mark.parametrize(
    ('model', 'message'),
    [
        (dict(), r'phase 1 \(head\): logits=True, but model.logits is not set; name the student'),
        (
            dict(logits='head.fd'),
            r"model.logits: the student, ImageClassifier, has no module 'head.fd'; did you mean 'head.fc'",
        ),
        (dict(logits=dict(modul='head.fc')), "model.logits: unknown field 'modul'; did you mean 'module'"),
        (
            dict(logits='backbone.layer3'),
            r"'backbone.layer3' of the student must give logits .* for 2 images it gave \(2, 32, 2, 2\)",
        ),
        (dict(logits='head.loss_module'), r"it gave nothing: it does not run with mode='tensor'"),
        (dict(logits='neck.gap'), r'must give logits of shape \(N, classes\)'),
    ],
)
def test_what_gives_no_logits_is_refused(tmp_path, teacher_path, model, message):
    cfg = run_cfg(tmp_path, teacher_path, hook=dict(phases=[dict(train='head', logits=True)]))
    cfg.model.update(model)
    with pytest.raises(ConfigError, match=message):
        train(cfg)


def test_different_numbers_of_classes_are_refused(tmp_path):
    teacher = save_weights(classifier(num_classes=7), tmp_path / 'seven.pth')
    with pytest.raises(ConfigError, match="'head.fc' of the student has 10 classes, that of the teacher 7"):
        build(teacher, teacher=classifier(num_classes=7), logits='head.fc')


def test_parameters_behind_the_logits_are_refused(tmp_path, teacher_path):
    """Those of the fully connected layer, where the pooled vector is taken for the logits."""
    cfg = run_cfg(tmp_path, teacher_path, hook=dict(phases=[dict(train='head', logits=True, task_loss=False)]))
    cfg.model.logits = 'neck'
    with pytest.raises(ConfigError, match=r'2 of the parameters that it trains get no gradient.*\(neck\)'):
        train(cfg)


def test_looking_for_the_logits_leaves_no_trace(teacher_path):
    plain, model = build(teacher_path), build(teacher_path, logits='head.fc')
    assert same(plain.state_dict(), model.state_dict())
    assert [m.training for m in plain.modules()] == [m.training for m in model.modules()][: len(list(plain.modules()))]
    assert not any(p.requires_grad for p in model.teacher.parameters())
    assert model.logits.reached == {name for name, _ in model.student.named_parameters()}
