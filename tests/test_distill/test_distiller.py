"""The distiller by itself: the teacher's isolation, what is frozen, what is computed, what a state dict holds."""

import copy
from pathlib import Path

import pytest
import torch
from distill_helpers import IMAGES, NoTransfers, build, idle_student, on_fake_gpu, phase, samples
from helpers import classifier, same, save_weights
from mmengine.config import ConfigDict
from mmengine.optim import OptimWrapper
from mmengine.registry import MODELS
from mmengine.runner.checkpoint import load_state_dict
from mmengine.structures import BaseDataElement
from torch import nn
from torch._subclasses.fake_tensor import DataDependentOutputException

from mmsskd.distill.losses import StepValues
from mmsskd.errors import ConfigError

# -- the teacher -------------------------------------------------------------------------------------------------------


def test_teacher_is_in_no_parameter_tree(teacher_path):
    model = build(teacher_path)
    ids = {id(p) for p in model.teacher.parameters()}
    assert not ids & {id(p) for p in model.parameters()}
    assert 'teacher' not in dict(model.named_children())
    assert not any('teacher' in name for name in model.state_dict())
    assert model.state_dict().keys() == model.student.state_dict().keys()


def test_teacher_stays_in_eval_without_gradients(tmp_path):
    """Dropout and DropPath too: two teacher forwards in train mode are equal."""
    convnext = dict(
        type='mmpretrain.ImageClassifier',
        backbone=dict(
            type='ConvNeXt',
            arch=dict(depths=[1, 1, 1, 1], channels=[4, 8, 8, 8]),
            drop_path_rate=0.9,
            layer_scale_init_value=1.0,
        ),
        head=dict(type='LinearClsHead', num_classes=3, in_channels=8),
    )
    model = build(
        save_weights(convnext, tmp_path / 'convnext.pth'), teacher=convnext, student=convnext, input_shape=(3, 32, 32)
    )
    images = torch.randn(8, 3, 32, 32)
    phase(model, train='stages.1')
    for mode in (True, False, True):
        assert model.train(mode) is model
        assert not any(module.training for module in model.teacher.modules())
        assert not any(p.requires_grad for p in model.teacher.parameters())
        features = [model.teacher_features(images, ['stages.3'])['stages.3'][0] for _ in range(2)]
        assert torch.equal(*features) and not features[0].requires_grad


def test_teacher_moves_with_the_student(teacher_path):
    model = build(teacher_path)
    assert model.half() is model
    assert {p.dtype for p in model.teacher.parameters()} == {torch.float16}
    model.to(torch.float64)
    assert {p.dtype for p in [*model.teacher.parameters(), *model.parameters()]} == {torch.float64}
    model.to('meta')
    assert {p.device.type for p in [*model.teacher.parameters(), *model.parameters()]} == {'meta'}


def test_init_weights_never_touches_the_teacher(teacher_path):
    model = build(teacher_path)
    before = {name: value.clone() for name, value in model.teacher.state_dict().items()}
    model.init_weights()
    assert same(before, model.teacher.state_dict())
    assert same(before, torch.load(teacher_path)['state_dict'])


def test_copy_shares_the_teacher(teacher_path):
    model = phase(build(teacher_path), train='layer1')
    model.on_non_finite = lambda values: None
    clone = copy.deepcopy(model)
    assert clone.teacher is model.teacher and clone.on_non_finite is None
    assert not {id(p) for p in clone.parameters()} & {id(p) for p in model.parameters()}
    clone.train()
    assert not clone.student.backbone.layer2.training and clone.student.backbone.layer1.training


def test_missing_teacher_checkpoint():
    with pytest.raises(ConfigError, match=r'model.teacher_checkpoint: no file .*nowhere.pth'):
        build('nowhere.pth')
    with pytest.raises(ConfigError, match='model.teacher_checkpoint is not set'):
        build('')


def test_teacher_of_another_architecture_lists_the_keys(tmp_path):
    other = save_weights(classifier(depth=8, num_classes=7), tmp_path / 'other.pth')
    with pytest.raises(ConfigError) as error:
        build(other)
    message = str(error.value)
    assert 'missing (30): backbone.layer1.1.conv1.weight' in message
    assert 'other shape (2): head.fc.weight (7, 32) (model: (10, 32))' in message


def test_truncated_teacher_checkpoint(tmp_path, teacher_path):
    data = Path(teacher_path).read_bytes()
    for length in (0, 100, len(data) // 2):
        (tmp_path / 'cut.pth').write_bytes(data[:length])
        with pytest.raises(ConfigError, match=r'model.teacher_checkpoint: cannot read .*cut.pth.*truncated'):
            build(tmp_path / 'cut.pth')


def test_checkpoint_of_a_stagewise_run_can_teach(tmp_path, teacher_path):
    model = build(teacher_path, student=classifier(depth=8, width=1))
    torch.save(dict(state_dict=model.state_dict()), tmp_path / 'run.pth')
    assert any(name.startswith('adapters') for name in model.state_dict())
    again = build(tmp_path / 'run.pth', teacher=classifier(depth=8, width=1))
    assert same(again.teacher.state_dict(), model.student.state_dict())


# -- teacher and student by name ---------------------------------------------------------------------------------------


def test_models_by_path_with_changes(tmp_path):
    spec = dict(
        cfg_path='mmpretrain::resnet/resnet18_8xb16_cifar10.py', backbone=dict(base_channels=8, stem_channels=8)
    )
    spec['head'] = dict(in_channels=64, num_classes=5)
    from mmsskd.distill.build import build_model, resolve_model_cfg

    cfg = resolve_model_cfg(spec, 'teacher')
    assert cfg.backbone.type == 'ResNet_CIFAR' and cfg.head.num_classes == 5 and cfg._scope_ == 'mmpretrain'
    torch.save(build_model(cfg).state_dict(), tmp_path / 'bare.pth')
    model = build(tmp_path / 'bare.pth', teacher=spec, student=spec, input_shape=(3, 32, 32))
    assert list(model.stages) == ['layer1', 'layer2', 'layer3', 'layer4'] and not model.adapters
    assert model.data_preprocessor.mean.flatten().tolist() == pytest.approx([125.307, 122.961, 113.8575])


@pytest.mark.parametrize(
    ('spec', 'message'),
    [
        ('mmpretrain::resnet/resnet34_8xb32_in1kk.py', r"no config .*did you mean 'resnet/resnet34_8xb32_in1k.py'"),
        ('mmpretain::resnet/resnet34.py', "unknown package in .*did you mean 'mmpretrain'"),
        ('nowhere.py', "no config file 'nowhere.py'"),
        (dict(backbone=dict()), 'model.student has neither `type` nor `cfg_path`'),
        (7, 'must be a config dict or the path of a config, found 7'),
    ],
)
def test_wrong_model_names(teacher_path, spec, message):
    with pytest.raises(ConfigError, match=message):
        build(teacher_path, student=spec)


def test_student_starts_from_its_checkpoint(tmp_path, teacher_path):
    start = save_weights(classifier(depth=8), tmp_path / 'start.pth', seed=7)
    model = build(teacher_path, student_checkpoint=start)
    model.init_weights()
    assert same(torch.load(start)['state_dict'], model.state_dict())


# -- freezing ----------------------------------------------------------------------------------------------------------


def test_phase_freezes_all_but_what_it_trains(teacher_path):
    model = phase(build(teacher_path), train='layer2')
    for _ in range(2):  # train() re-asserts it
        model.train()
        trained = {name for name, p in model.student.named_parameters() if p.requires_grad}
        assert trained == {name for name, _ in model.student.named_parameters() if name.startswith('backbone.layer2')}
        training = {
            name
            for name, module in model.student.named_modules()
            if module.training and not next(module.children(), None)
        }
        assert training and all(name.startswith(('backbone.layer2', 'data_preprocessor')) for name in training if name)
        model.student.backbone.conv1.weight.requires_grad = True  # what some models do in their own train()


def test_head_is_what_no_stage_owns(teacher_path):
    model = phase(build(teacher_path), train='head')
    assert {name for name, p in model.named_parameters() if p.requires_grad} == {
        'student.head.fc.weight',
        'student.head.fc.bias',
    }
    assert model.student.head.training and not model.student.backbone.training


def test_frozen_stages_of_the_host_are_noticed(teacher_path):
    with pytest.raises(ConfigError, match=r"stage 'layer1' has nothing to train.*set frozen_stages=-1"):
        build(teacher_path, student=classifier(depth=8, frozen_stages=1))


@pytest.fixture
def warnings(monkeypatch):
    messages = []
    monkeypatch.setattr('mmsskd.distill.network.pairing._warn', messages.append)
    return messages


def test_half_frozen_stage_is_a_warning(teacher_path, warnings):
    model = build(teacher_path, student=classifier(depth=8, frozen_stages=0))
    assert (
        len(warnings) == 2 and "stage 'layer1': the config of the student keeps 3 of 9 parameters frozen" in warnings[0]
    )
    phase(model, train='layer1')
    assert not model.student.backbone.conv1.weight.requires_grad  # the host's wish holds
    assert model.student.backbone.layer1[0].conv1.weight.requires_grad


def test_norm_eval_of_the_host_is_a_warning(teacher_path, warnings):
    build(teacher_path, student=classifier(depth=8, norm_eval=True))
    assert [message[:14] for message in warnings] == ["stage 'layer1'", "stage 'layer2'", "stage 'layer3'"]
    assert '3 normalization layers keep their statistics' in warnings[1]
    build(teacher_path)
    assert len(warnings) == 3


# -- what is computed --------------------------------------------------------------------------------------------------


def watch(model):
    ran = []
    for side in ('student', 'teacher'):
        for name, module in getattr(model, side).named_modules():
            module.register_forward_hook(lambda m, a, o, name=f'{side}.{name}': ran.append((name, o)))
    return ran


def test_transfer_runs_neither_network_past_its_tap_and_no_head(teacher_path):
    model = phase(build(teacher_path), train='layer2')
    ran = watch(model.train())
    losses = model(IMAGES, None, mode='loss')
    names = {name for name, _ in ran}
    assert 'student.backbone.layer2' in names and 'teacher.backbone.layer2' in names
    assert not [name for name in names if 'layer3' in name or '.head' in name or '.neck' in name]
    assert set(losses) == {'loss_mimic_layer2', 'relative_error_layer2', 'cosine_layer2'}
    outputs = dict(ran)
    assert not outputs['student.backbone.layer1'].requires_grad  # no graph before the stage
    assert outputs['student.backbone.layer2'].requires_grad
    assert not outputs['teacher.backbone.layer2'].requires_grad
    losses['loss_mimic_layer2'].backward()
    trained = {name for name, p in model.student.named_parameters() if p.grad is not None}
    assert trained == set(model.stages['layer2'].parameters)


def test_autocast_halves_both_networks_and_no_loss(teacher_path):
    """What `--amp` asks for, in bfloat16 on a CPU: the teacher's feature too, since both run in the wrapper's context."""
    model = phase(build(teacher_path), train='layer2')
    ran = watch(model.train())
    with torch.autocast('cpu', torch.bfloat16):
        losses = model(IMAGES, None, mode='loss')
    outputs = dict(ran)
    convolutions = [outputs[f'{side}.backbone.layer2.0.conv2'].dtype for side in ('student', 'teacher')]
    assert convolutions == 2 * [torch.bfloat16] and losses['loss_mimic_layer2'].dtype == torch.float32


def boxed_samples() -> list:
    """Data samples of four images of 8 pixels, each with another number of boxes."""
    samples = [BaseDataElement(metainfo=dict(batch_input_shape=(8, 8))) for _ in range(4)]
    for count, sample in enumerate(samples):
        sample.gt_instances = BaseDataElement(bboxes=torch.empty(count, 4, device='cuda'))
    return samples


@pytest.mark.parametrize(
    'loss', ['FeatureMimic', 'CosineMimic', 'BalancedMimic', 'PKD', 'CWD', 'ForegroundMimic', 'MGD']
)
def test_a_forward_waits_for_no_gpu(teacher_path, loss):
    """All losses: no value is read on the CPU, and no tensor is made there."""
    model = build(teacher_path, mimic_loss=dict(type=f'mmsskd.{loss}Loss'), logits='head.fc')
    phase(model, train=['layer1', 'layer2'], mimic=['layer1', 'layer2'], logits=True).train()
    with on_fake_gpu(model):
        images, boxes = torch.empty(4, 1, 8, 8, device='cuda'), boxed_samples()
        with NoTransfers():
            losses = model.loss(images, boxes)
        assert len(losses) == 7 and all(value.device.type == 'cuda' for value in losses.values())
        with pytest.raises(DataDependentOutputException):  # as a value that is read would
            losses['loss_mimic_layer1'].item()


@pytest.mark.parametrize('accumulate', [1, 2])
def test_losses_are_looked_at_between_the_backward_pass_and_the_update(teacher_path, monkeypatch, accumulate):
    """So that a GPU has the backward pass to do while Python waits for the forward. A loss that is not finite changes no weight."""
    model, order = phase(build(teacher_path), train='layer1').train(), []
    optimizer = torch.optim.SGD(model.student.parameters(), 0.1)
    wrapper = OptimWrapper(optimizer, accumulative_counts=accumulate)
    weight = model.student.backbone.layer1[0].conv1.weight
    weight.register_hook(lambda grad: order.append('backward'))
    optimizer.register_step_post_hook(lambda *step: order.append('update'))
    failure = StepValues.failure
    monkeypatch.setattr(StepValues, 'failure', lambda self: order.append('look') or failure(self))
    model.train_step(dict(inputs=list(IMAGES)), wrapper)
    assert order == ['backward', 'look', *(['update'] if accumulate == 1 else [])]
    model.on_non_finite = stop = Stop()
    before, gradients = weight.clone(), {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    assert bool(gradients) == (accumulate > 1)
    gradients = {name: gradient.clone() for name, gradient in gradients.items()}
    with pytest.raises(Stop):
        model.train_step(dict(inputs=list(IMAGES * float('nan'))), wrapper)
    assert stop.said == 'loss=nan, loss_mimic_layer1=nan' and torch.equal(weight, before)
    assert same({name: p.grad for name, p in model.named_parameters() if p.grad is not None}, gradients), 'as before it'
    assert not model._looks_later and not optimizer._optimizer_step_pre_hooks


class Stop(Exception):
    """What ends a run."""

    def __call__(self, said):
        self.said = said
        raise self


def test_ground_truth_is_prepared_where_the_task_loss_wants_it_and_nowhere_else(teacher_path):
    model, seen = build(teacher_path), []
    forward = model.student.forward
    model.student.forward = lambda inputs, samples=None, mode='tensor': (
        seen.append(samples) or forward(inputs, samples, mode=mode)
    )
    wrapper = OptimWrapper(torch.optim.SGD(model.parameters(), 0.1))
    preprocess = lambda: model.data_preprocessor(dict(inputs=list(IMAGES), data_samples=samples()), True)  # noqa: E731
    phase(model, train='layer1')
    assert preprocess()['data_samples'] is None
    model.train_step(dict(inputs=list(IMAGES), data_samples=samples()), wrapper)
    phase(model, train='head')
    assert len(preprocess()['data_samples']) == 4
    model.train_step(dict(inputs=list(IMAGES), data_samples=samples()), wrapper)
    assert [len(each) for each in seen] == [4]
    phase(model, train='layer1')
    model.data_preprocessor.batch_augments = lambda inputs, scores: (inputs, scores)  # may need labels
    with pytest.raises(AssertionError, match='num_classes'):  # of which it makes scores
        model.data_preprocessor.to_onehot = True
        preprocess()


def test_head_phase_runs_no_teacher(teacher_path):
    from mmpretrain.structures import DataSample

    model = phase(build(teacher_path), train='head')
    ran = watch(model.train())
    losses = model(IMAGES, [DataSample().set_gt_label(i) for i in range(4)], mode='loss')
    assert not [name for name, _ in ran if name.startswith('teacher')]
    assert set(losses) == {'loss'}


def test_task_loss_beside_mimic_loss(teacher_path):
    from mmpretrain.structures import DataSample

    model = phase(build(teacher_path), train='all', mimic=['layer1', 'layer3'], task_loss=True)
    samples = [DataSample().set_gt_label(i) for i in range(4)]
    losses = model.train()(IMAGES, samples, mode='loss')
    total, _ = model.parse_losses(losses)
    expected = losses['loss'] + losses['loss_mimic_layer1'] + losses['loss_mimic_layer3']
    assert total.item() == pytest.approx(expected.item())
    total.backward()
    assert all(p.grad is not None for p in model.student.parameters())


def test_no_phase_is_an_error_not_a_guess(teacher_path):
    with pytest.raises(ConfigError, match='no phase is set; add'):
        build(teacher_path)(IMAGES, None, mode='loss')


# -- widths and sizes --------------------------------------------------------------------------------------------------


def test_adapters_only_where_widths_differ(teacher_path):
    assert not build(teacher_path).adapters
    model = build(teacher_path, student=classifier(depth=8, width=1))
    assert list(model.adapters) == ['layer1', 'layer2', 'layer3']
    convolution, _ = model.adapters['layer2'].levels[0]  # BN after it
    assert isinstance(convolution, torch.nn.Conv2d) and convolution.weight.shape == (16, 32, 1, 1)


def test_adapter_trains_with_its_stage_only(teacher_path):
    model = build(teacher_path, student=classifier(depth=8, width=1))
    phase(model, train='layer2')
    assert {name for name, p in model.adapters.named_parameters() if p.requires_grad} == {
        'layer2.levels.0.0.weight',
        'layer2.levels.0.1.weight',
        'layer2.levels.0.1.bias',
    }
    model.train()(IMAGES, None, mode='loss')['loss_mimic_layer2'].backward()
    assert model.adapters['layer2'].levels[0][0].weight.grad is not None
    phase(model, train='head')
    assert not any(p.requires_grad for p in model.adapters.parameters())


def test_state_dict_is_the_student_and_its_adapters(teacher_path):
    model = build(teacher_path, student=classifier(depth=8, width=1))
    state = model.state_dict()
    plain = {name: value for name, value in state.items() if not name.startswith('adapters.')}
    assert plain.keys() == model.student.state_dict().keys() and len(state) == len(plain) + 3 * 6
    torch.manual_seed(1)
    other = build(teacher_path, student=classifier(depth=8, width=1))
    other.load_state_dict(state)  # torch's loader, strict
    assert same(state, other.state_dict())
    third = build(teacher_path, student=classifier(depth=8, width=1))
    for p in third.parameters():
        p.data.zero_()
    load_state_dict(third, state, strict=True)  # MMEngine's loader
    assert same(state, third.state_dict())
    third.load_state_dict(plain, strict=False)  # a plain student


def test_spatial_mismatch_is_pooled_or_refused_with_both_shapes(teacher_path):
    coarse = classifier(depth=8)
    coarse['backbone'].update(type='mmpretrain.ResNet', depth=18, num_stages=3, strides=(1, 2, 2), dilations=(1, 1, 1))
    coarse['backbone'].update(base_channels=8, out_indices=(2,))
    coarse['backbone'].pop('width')
    cfg = dict(student=coarse, stages=['layer1', 'layer3'])
    with pytest.raises(
        ConfigError, match=r"stage 'layer1': student 8x2x2, teacher 8x8x8: the places differ \(4 and 64\)"
    ):
        build(teacher_path, resize=False, **cfg)
    model = phase(build(teacher_path, **cfg), train='layer1')
    losses = model.train()(IMAGES, None, mode='loss')
    assert torch.isfinite(losses['loss_mimic_layer1'])


def test_different_numbers_of_stages(teacher_path):
    with pytest.raises(
        ConfigError, match=r"the student has 1 stages \['layer1'\], the teacher 2 \['layer1', 'layer2'\]"
    ):
        build(teacher_path, stages=['layer1'], teacher_stages=['layer1', 'layer2'])


def test_different_names_per_side(teacher_path):
    model = build(teacher_path, stages=['layer1.0', 'layer3'], teacher_stages=['layer1', 'backbone.layer3'])
    assert model.teacher_stages['layer1.0'].tap == 'backbone.layer1'
    losses = phase(model, train='layer1.0').train()(IMAGES, None, mode='loss')
    assert 'loss_mimic_layer1.0' in losses


def test_tokens_get_a_linear_adapter(tmp_path):
    def vit(dims):
        return dict(
            type='mmpretrain.ImageClassifier',
            backbone=dict(
                type='mmpretrain.VisionTransformer',
                arch=dict(embed_dims=dims, num_layers=2, num_heads=2, feedforward_channels=16),
                img_size=8,
                patch_size=4,
                in_channels=1,
            ),
            head=dict(type='mmpretrain.LinearClsHead', num_classes=3, in_channels=dims),
        )

    model = build(
        save_weights(vit(8), tmp_path / 'vit.pth'), teacher=vit(8), student=vit(4), stages=['layers.0', 'layers.1']
    )
    linear, _ = model.adapters['layers_0'].levels[0]
    assert isinstance(linear, torch.nn.Linear) and linear.weight.shape == (8, 4)
    assert torch.isfinite(phase(model, train='layers.0').train()(IMAGES, None, mode='loss')['loss_mimic_layers.0'])


def test_map_against_a_vector_is_refused(teacher_path):
    with pytest.raises(
        ConfigError, match=r"stage 'layer1': student 32x2x2, teacher 32: one is a vector without places"
    ):
        build(teacher_path, stages=['layer1'], teacher_stages=['neck'])


def test_config_is_left_unchanged(teacher_path):
    student = ConfigDict(classifier(depth=8))
    before = copy.deepcopy(student)
    build(teacher_path, student=student)
    assert student == before


# -- what a backbone runs for nobody, or for the head --------------------------------------------------------------------


def test_what_nothing_depends_on_stays_as_it_is(teacher_path):
    """All that a phase trains gets a gradient, so DDP waits for none in vain; the idle layer has none and stays in eval mode."""
    model = build(teacher_path, student=idle_student(), stages=['layer1', 'layer2'])
    idle = model.stages['layer2'].idle
    assert idle and all(name.startswith('backbone.layer3.') for name in idle)
    for part in ('layer1', 'layer2', 'head', 'all'):
        phase(model, train=part).train()
        loss, _ = model.parse_losses(model(IMAGES, samples(), mode='loss'))
        loss.backward()
        trained = {name for name, p in model.student.named_parameters() if p.requires_grad}
        assert trained and not trained & set(idle)
        assert all(model.student.get_parameter(name).grad is not None for name in trained)
        assert not model.student.get_submodule('backbone.layer3.0.bn1').training
        model.zero_grad()


@MODELS.register_module()
class Classifying(nn.Module):
    """A backbone that gives scores, as VGG of mmpretrain does."""

    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(*[nn.Sequential(nn.Conv2d(c, 4, 3, 2, 1), nn.Conv2d(4, 4, 1)) for c in (1, 4)])
        self.dropout, self.fc = nn.Dropout(), nn.Linear(4, 10)

    def forward(self, inputs):
        return (self.fc(self.dropout(self.features(inputs).mean((2, 3)))),)


def test_a_backbone_that_classifies_trains_its_classifier_as_the_head(tmp_path):
    """Its stages end before that; dropout, which has no weights, trains with it."""
    cfg = dict(
        type='mmpretrain.ImageClassifier',
        backbone=dict(type='Classifying', _scope_='mmengine'),
        head=dict(type='mmpretrain.ClsHead', topk=(1,)),
    )
    model = build(save_weights(cfg, tmp_path / 'teacher.pth'), teacher=cfg, student=cfg)
    assert [stage.tap for stage in model.stages.values()] == ['backbone.features.0', 'backbone.features.1']
    assert model.parameters_of('head') == ['backbone.fc.weight', 'backbone.fc.bias']
    for part in ('features.1', 'head'):
        phase(model, train=part).train()
        for path in ('features.1.0', 'fc', 'dropout'):
            training = model.student.get_submodule(f'backbone.{path}').training
            assert training is (path.startswith('features') == (part != 'head'))
    losses = model(IMAGES, samples(), mode='loss')
    model.parse_losses(losses)[0].backward()
    assert model.student.backbone.fc.weight.grad is not None
