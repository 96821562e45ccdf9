"""Fields of a phase that change how it learns: the teacher's prefix, the best weights, BN statistics; and normed adapters."""

import re

import numpy as np
import pytest
import torch
from distill_helpers import IMAGES, build, phase
from helpers import GROUP_NORM, classifier, loader, run_cfg, same, save_weights, train, weights
from test_mimic_loss import explained

from mmsskd.distill.phases import parse_phases
from mmsskd.errors import ConfigError

STAGES = ['layer1', 'layer2', 'layer3']


def backbone(model, images, inputs=None):
    """Each stage's output, stage by stage; ``inputs``: what a stage gets in place of the output of the one before."""
    net, outputs = model.backbone, {}
    feature = net.relu(net.bn1(net.conv1(images)))
    for k, name in enumerate(STAGES):
        feature = getattr(net, name)(inputs[STAGES[k - 1]].clone() if inputs and k else feature)
        outputs[name] = feature
    return outputs


# -- prefix='teacher' --------------------------------------------------------------------------------------------------


def test_stages_learn_from_the_teachers_features(teacher_path):
    """Values and gradients are those of each stage by itself, run by hand on the teacher's feature before it."""
    model = phase(build(teacher_path), train='stages', prefix='teacher').train()
    passes = []
    for side in ('student', 'teacher'):
        net = getattr(model, side).backbone
        net.conv1.register_forward_hook(lambda m, a, o, side=side: passes.append(side))
    losses = model(IMAGES, None, mode='loss')
    assert sorted(passes) == ['student', 'teacher']  # one forward of each
    with torch.no_grad():
        targets = backbone(model.teacher, IMAGES)
    alone = backbone(model.student, IMAGES, targets)  # BN in training mode: the same batch gives the same features
    for name in STAGES:
        value = losses[f'loss_mimic_{name}'].item()
        assert value == pytest.approx(explained(alone[name].detach(), targets[name]), rel=1e-4), name
    model.parse_losses(losses)[0].backward()
    got = {name: p.grad.clone() for name, p in model.student.named_parameters() if p.grad is not None}
    assert {name.split('.')[1] for name in got} == {'conv1', 'bn1', *STAGES}
    model.zero_grad()
    for name in STAGES:
        variance = ((targets[name] - targets[name].mean((0, 2, 3), keepdim=True)) ** 2).mean()
        (((alone[name] - targets[name]) ** 2).mean() / variance).backward()
    for name, gradient in got.items():
        torch.testing.assert_close(model.student.get_parameter(name).grad, gradient, rtol=1e-3, atol=1e-5)


def test_no_gradient_crosses_the_border(teacher_path):
    model = phase(build(teacher_path), train=['layer1', 'layer3'], prefix='teacher').train()
    losses = model(IMAGES, None, mode='loss')
    with torch.no_grad():
        targets = backbone(model.teacher, IMAGES)
        own = model.student.backbone.layer3(targets['layer2'].clone())
    assert losses['loss_mimic_layer3'].item() == pytest.approx(explained(own, targets['layer3']), rel=1e-4)
    losses['loss_mimic_layer3'].backward()
    assert {name.split('.')[1] for name, p in model.student.named_parameters() if p.grad is not None} == {'layer3'}


def test_a_layer_that_works_in_place_does_not_change_the_target(teacher_path):
    model = phase(build(teacher_path), train='stages', prefix='teacher').train()
    expected = model(IMAGES, None, mode='loss')
    for name in ('layer2', 'layer3'):
        getattr(model.student.backbone, name).register_forward_pre_hook(lambda module, args: (args[0].mul_(3),))
    losses = model(IMAGES, None, mode='loss')
    assert losses['loss_mimic_layer1'].item() == expected['loss_mimic_layer1'].item()  # nor the student's own feature
    assert losses['loss_mimic_layer3'].item() != expected['loss_mimic_layer3'].item()
    model.parse_losses(losses)[0].backward()


def test_run_with_the_teachers_prefix(tmp_path, teacher_path):
    """The head keeps every bit in the first phase; validation is on the student's own prefix."""
    phases = [dict(train='stages', prefix='teacher'), dict(train='head')]
    runner = train(run_cfg(tmp_path, teacher_path, hook=dict(phases=phases)))
    first = weights(tmp_path / 'phase1_stages.pth')
    cfg = run_cfg(tmp_path / 'again', teacher_path, hook=dict(phases=phases[:1]))
    again = train(cfg)
    assert same(first, again.model.state_dict())
    assert same(weights(teacher_path), runner.model.teacher.state_dict())
    model, features = again.model.eval(), {'student': [], 'teacher': []}
    for data in again.val_dataloader:
        images = model.data_preprocessor(data, False)['inputs']
        for side, values in features.items():
            values.append(backbone(getattr(model, side), images)['layer3'].detach())
    expected = explained(torch.cat(features['student']), torch.cat(features['teacher']))
    assert again.message_hub.get_scalar('val/relative_error_layer3').current() == pytest.approx(expected, rel=1e-4)
    fresh = build(teacher_path).student.state_dict()
    last = runner.model.state_dict()
    assert {n for n in fresh if not torch.equal(first[n], last[n])} == {'head.fc.weight', 'head.fc.bias'}


@pytest.mark.parametrize(
    ('student', 'phase', 'message'),
    [
        (
            dict(width=1),
            dict(train='stages'),
            r"teacher's feature in the place of the student's 'layer1', but its shape dif",
        ),
        (
            dict(),
            dict(train='all', task_loss=True, mimic='stages'),
            'what trains must be what is mimicked, without task_l',
        ),
        (
            dict(),
            dict(train='stages', mimic='layer3'),
            r"found train=\['layer1', 'layer2', 'layer3'\], mimic=\['layer3'\]",
        ),
    ],
)
def test_where_the_teachers_prefix_cannot_be(tmp_path, teacher_path, student, phase, message):
    cfg = run_cfg(
        tmp_path,
        teacher_path,
        student=classifier(depth=8, **student),
        hook=dict(phases=[dict(phase, prefix='teacher')]),
    )
    with pytest.raises(ConfigError, match=message):
        train(cfg)


# -- reload_best -------------------------------------------------------------------------------------------------------


def reload_cfg(folder, teacher_path, iters=None):
    """A learning rate with which the error goes down and then up again."""
    wild = dict(optimizer=dict(type='SGD', lr=0.05))
    growing = [dict(type='ExponentialLR', gamma=2.5 if iters is None else 1.6, by_epoch=iters is None)]
    length = dict(epochs=6) if iters is None else dict(iters=iters)
    phases = [
        dict(train='layer1', reload_best=True, optim_wrapper=wild, param_scheduler=growing, **length),
        dict(train='layer2'),
    ]
    cfg = run_cfg(folder, teacher_path, iters=iters, hook=dict(phases=phases), student=classifier(depth=8, width=1))
    cfg.model.adapter_norm = True
    if iters is not None:
        cfg.train_cfg.val_interval = 2
    return cfg


def validated(folder):
    """The error of each validation of the first phase, from the log."""
    log = next(folder.glob('*/*.log')).read_text()
    return [float(value) for value in re.findall(r'val/relative_error_layer1: ([\d.]+)', log)]


@pytest.mark.parametrize('iters', [None, 8])
def test_phase_ends_with_its_best_weights(tmp_path, teacher_path, iters):
    cfg = reload_cfg(tmp_path, teacher_path, iters)
    cfg.log_level = 'INFO'
    train(cfg)
    errors = validated(tmp_path)
    best = int(np.argmin(errors))
    assert len(errors) == (6 if iters is None else 4) and 0 < best < len(errors) - 1, (
        errors
    )  # else the test tests nothing
    name = f'epoch_{best + 1}.pth' if iters is None else f'iter_{2 * (best + 1)}.pth'
    ended = weights(tmp_path / 'phase1_layer1.pth')
    assert same(weights(tmp_path / name), ended)  # the normed adapter and all BN statistics too
    assert not same(weights(tmp_path / ('epoch_5.pth' if iters is None else 'iter_7.pth')), ended)
    log = next(tmp_path.glob('*/*.log')).read_text()
    assert f'whose error is the lowest: {errors[best]:.4f}' in log
    assert 'best' not in torch.load(tmp_path / 'phase1_layer1.pth', weights_only=False)['stage_schedule']


@pytest.mark.parametrize(('iters', 'cuts'), [(None, [1, 4, 5, 6]), (8, [3, 6])])
def test_resumed_run_remembers_the_best(tmp_path, teacher_path, iters, cuts):
    train(reload_cfg(tmp_path / 'whole', teacher_path, iters))
    kind, last = ('epoch', 7) if iters is None else ('iter', 16)
    for cut in cuts:
        cfg = reload_cfg(tmp_path / f'cut{cut}', teacher_path, iters)
        cfg.resume, cfg.load_from = True, str(tmp_path / f'whole/{kind}_{cut}.pth')
        train(cfg)
        whole, again = (weights(tmp_path / f'{run}/{kind}_{last}.pth') for run in ('whole', f'cut{cut}'))
        assert same(whole, again), cut


def test_no_validation_set_to_go_by(tmp_path, teacher_path):
    cfg = run_cfg(tmp_path, teacher_path, hook=dict(phases=[dict(train='layer1', reload_best=True)]))
    cfg.val_dataloader = cfg.val_evaluator = cfg.val_cfg = None
    with pytest.raises(ConfigError, match='reload_best goes by the error on the validation set.*no val_dataloader'):
        train(cfg)


# -- recalibrate_bn ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize('iters', [None, 3])
def test_statistics_are_the_mean_over_batches_with_the_last_weights(tmp_path, teacher_path, iters):
    """Without augmentation and with one batch of all images, they are those of the data set, written out by hand."""

    def cfg(folder, **fields):
        phases = [dict(train='layer1'), dict(train='layer2', **fields), dict(train='head')]
        cfg = run_cfg(tmp_path / folder, teacher_path, iters=iters, hook=dict(phases=phases))
        cfg.train_dataloader = loader(batch_size=96, infinite=iters is not None)
        cfg.train_dataloader.dataset.pipeline = [dict(type='PackInputs')]
        return cfg

    train(cfg('plain'))
    runner = train(cfg('new', recalibrate_bn=3))
    plain, new = (weights(tmp_path / f'{folder}/phase2_layer2.pth') for folder in ('plain', 'new'))
    changed = {name for name in plain if not torch.equal(plain[name], new[name])}
    assert changed and all('layer2' in name and name.endswith(('mean', 'var', 'tracked')) for name in changed)
    images = torch.stack([runner.train_dataloader.dataset[i]['inputs'] for i in range(96)])
    model = runner.model.eval()
    net, data = model.student.backbone, model.data_preprocessor(dict(inputs=images), False)
    with torch.no_grad():
        conv = net.layer2[0].conv1(net.layer1(net.relu(net.bn1(net.conv1(data['inputs'])))))
    torch.testing.assert_close(new['backbone.layer2.0.bn1.running_mean'], conv.mean((0, 2, 3)), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(new['backbone.layer2.0.bn1.running_var'], conv.var((0, 2, 3)), rtol=1e-4, atol=1e-5)
    assert all(m.momentum == 0.1 for m in net.modules() if isinstance(m, torch.nn.BatchNorm2d))
    # the order of the images is that of the run without: the head, which looks at no statistics of its own, saw the same labels
    log = weights(tmp_path / ('new/epoch_3.pth' if iters is None else 'new/iter_9.pth'))
    assert same(log, new, [name for name in new if 'layer' in name])


@pytest.mark.parametrize('batches', [1, 2, 50])
def test_some_batches_of_the_data(tmp_path, teacher_path, batches):
    """As many as there are, at most; of all parts that train, the normed adapter too, behind the teacher's prefix too."""
    phases = [dict(train='stages', recalibrate_bn=batches)]
    cfg = run_cfg(tmp_path, teacher_path, hook=dict(phases=phases), student=classifier(depth=8, width=1))
    cfg.model.adapter_norm = True
    state = train(cfg).model.state_dict()
    counts = {value.item() for name, value in state.items() if 'num_batches' in name}
    assert counts == {min(batches, 3)} and 'adapters.layer3.levels.0.1.num_batches_tracked' in state


def test_resumed_run_recalibrates_alike(tmp_path, teacher_path):
    def cfg(folder):
        phases = [
            dict(train='stages', prefix='teacher', recalibrate_bn=2, iters=4),
            dict(train='all', recalibrate_bn=1),
        ]
        return run_cfg(tmp_path / folder, teacher_path, iters=3, hook=dict(phases=phases))

    train(cfg('whole'))
    for step in (2, 4, 5):
        cut = cfg(f'cut{step}')
        cut.resume, cut.load_from = True, str(tmp_path / f'whole/iter_{step}.pth')
        train(cut)
        assert same(weights(tmp_path / 'whole/iter_7.pth'), weights(tmp_path / f'cut{step}/iter_7.pth')), step


def test_nothing_to_recalibrate(tmp_path):
    teacher = save_weights(classifier(**GROUP_NORM), tmp_path / 'teacher.pth')
    models = dict(teacher=classifier(**GROUP_NORM), student=classifier(depth=8, **GROUP_NORM))
    cfg = run_cfg(tmp_path, teacher, hook=dict(phases=[dict(train='layer1', recalibrate_bn=1)]), **models)
    with pytest.raises(
        ConfigError, match=r'phase 1 of 1 \(layer1\): recalibrate_bn, but no BN layer of what it trains'
    ):
        train(cfg)


# -- adapter_norm ------------------------------------------------------------------------------------------------------


def test_norm_of_an_adapter_moves_with_its_stage_only(teacher_path):
    model = build(teacher_path, student=classifier(depth=8, width=1), adapter_norm=True)
    convolution, norm = model.adapters['layer2'].levels[0]
    assert convolution.bias is None and norm.num_features == 16
    for part, moves in (('layer2', True), ('layer1', False), ('head', False)):
        phase(model, train=part).train()
        assert [m.training for m in (convolution, norm)] == [moves] * 2, part
        assert norm.weight.requires_grad is moves
    phase(model, train='layer1', mimic='layer2').train()  # through the adapter, without moving it
    before = {name: value.clone() for name, value in model.adapters.state_dict().items()}
    model(IMAGES, None, mode='loss')['loss_mimic_layer2'].backward()
    assert same(before, model.adapters.state_dict()) and model.student.backbone.conv1.weight.grad is not None
    phase(model, train='layer2').train()
    losses = model(IMAGES, None, mode='loss')
    feature = model.student.backbone.layer2
    assert norm.num_batches_tracked == 1 and feature.training and torch.isfinite(losses['loss_mimic_layer2'])


def test_normed_adapters_of_a_run(tmp_path, teacher_path):
    """Each moves in its own phase, to the bit in no other, and is not exported."""
    cfg = run_cfg(tmp_path, teacher_path, student=classifier(depth=8, width=1))
    cfg.model.adapter_norm = True
    runner = train(cfg)
    ends = [weights(tmp_path / f'phase{i}_layer{i}.pth') for i in (1, 2, 3)]
    for first, second, moved in ((ends[0], ends[1], 'layer2'), (ends[1], ends[2], 'layer3')):
        names = {
            name.split('.')[1] for name in first if 'adapters' in name and not torch.equal(first[name], second[name])
        }
        assert names == {moved}
    assert same(ends[2], runner.model.state_dict(), [name for name in ends[2] if 'adapters' in name])
    assert any('adapters' in name and 'running_var' in name for name in ends[2])
    assert not any('adapters' in name for name in weights(tmp_path / 'student.pth'))


def test_norm_of_tokens_and_vectors():
    from mmsskd.distill.adapter import FeatureAdapter

    for shape in ((7, 4), (4,)):
        adapter = FeatureAdapter([shape], [(*shape[:-1], 6)], norm=True)
        (out,) = adapter([torch.randn(5, *shape)])
        assert out.shape == (5, *shape[:-1], 6)
        flat = out.flatten(0, -2)
        torch.testing.assert_close(flat.mean(0), torch.zeros(6), rtol=0, atol=1e-5)
        torch.testing.assert_close(flat.var(0, unbiased=False), torch.ones(6), rtol=1e-2, atol=0)
        synced = torch.nn.SyncBatchNorm.convert_sync_batchnorm(adapter).eval()  # as a run with sync_bn does
        assert synced([torch.randn(5, *shape)])[0].shape == out.shape


# -- what cannot be ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ('phase', 'message'),
    [
        (dict(train='head', logits=1), 'logits must be True or False, found 1'),
        (dict(train='head', task_loss=False, logits=False), 'set task_loss=True or logits=True'),
        (dict(train='head', task_weight=0), 'task_weight must be a number above 0, found 0; task_loss=False'),
        (dict(train='head', task_weight=True), 'task_weight must be a number above 0, found True'),
        (dict(train='layer1', task_weight=0.5), 'task_weight=0.5, but there is no task loss'),
        (dict(train='layer1', prefix='none'), "prefix must be 'student' or 'teacher', found 'none'"),
        (dict(train='head', reload_best=True), 'reload_best goes by the error of the mimicked stages.*set save_best'),
        (dict(train='layer1', reload_best=True, recalibrate_bn=1), 'reload_best and recalibrate_bn exclude each other'),
        (dict(train='layer1', recalibrate_bn=-1), 'recalibrate_bn must be a number of training batches.*found -1'),
        (dict(train='layer1', recalibrate_bn=True), 'recalibrate_bn must be a number of training batches.*found True'),
        (dict(train='layer1', prefixes='teacher'), "unknown field 'prefixes'; did you mean 'prefix'"),
    ],
)
def test_fields_are_checked(phase, message):
    with pytest.raises(ConfigError, match=message):
        parse_phases([dict(phase, epochs=1)], STAGES, 'epochs', run_optim_wrapper=dict(optimizer=dict(type='SGD')))


def test_what_a_phase_says_of_itself():
    phases = [
        dict(train='all', logits=True, task_weight=0.1),
        dict(train='all', logits=True, task_loss=False),
        dict(train='stages', prefix='teacher'),
        dict(train='layer1'),
    ]
    sgd = dict(optimizer=dict(type='SGD'))
    first, second, third, plain = parse_phases(phases, STAGES, 'epochs', dict(epochs=1), dict(epochs=1), sgd)
    assert first.purpose.endswith("follows the teacher's logits and learns the task (weight 0.1)")
    assert second.mimic == () and second.learns_task and not second.task_loss
    assert third.purpose.endswith('mimics layer1, layer2, layer3 behind those of the teacher')
    assert (first.fingerprint()['logits'], first.fingerprint()['task_weight']) == (True, 0.1)
    assert not {'logits', 'task_weight', 'prefix', 'reload_best', 'recalibrate_bn'} & set(plain.fingerprint())
