"""The teacher as training steps run it: what is folded and cast, what must not be, and who never sees it."""

import copy
from collections import Counter

import pytest
import torch
from distill_helpers import IMAGES, build, phase
from helpers import classifier, same
from mmengine.optim import OptimWrapper
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from mmsskd.distill.network import folded
from mmsskd.distill.network.folded import StepTeacher
from mmsskd.distill.network.forward import features_at
from mmsskd.errors import ConfigError

BF16 = torch.bfloat16
TAPS = {'backbone': 1}


class Operations(TorchDispatchMode):
    """Counts what is dispatched in the body; casts by the type from which and to which."""

    def __init__(self):
        super().__init__()
        self.names = Counter()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        cast = (args[0].dtype, kwargs.get('dtype')) if function is torch.ops.aten._to_copy.default else ''
        self.names[function._schema.name, cast] += 1
        return function(*args, **kwargs)

    def of(self, name: str) -> int:
        return sum(count for (each, _), count in self.names.items() if each == f'aten::{name}')


class Teacher(nn.Module):
    """A backbone as a teacher is: trained a little, so that statistics are not those of the start, then frozen."""

    def __init__(self, backbone):
        super().__init__()
        self.backbone = backbone
        torch.manual_seed(0)
        for module in self.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.track_running_stats:
                module.running_mean.normal_()
                module.running_var.uniform_(0.5, 2)
                if module.affine:
                    nn.init.normal_(module.weight, 1, 0.1)
                    nn.init.normal_(module.bias)
        self.eval().requires_grad_(False)

    def extract_feat(self, inputs):
        return self.backbone(inputs)


class Block(nn.Module):
    """A convolution and a norm, put together by ``way``, a function of both and the image."""

    def __init__(self, way, norm=nn.BatchNorm2d, **options):
        super().__init__()
        self.conv, self.norm, self.other = nn.Conv2d(3, 3, 3, padding=1), norm(3, **options), nn.BatchNorm2d(3)
        self.way = way

    def forward(self, x):
        return self.way(self, x)


def norms_left(network) -> int:
    return sum(isinstance(module, folded.NORMS) for module in network.modules())


def images(size=8):
    return torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def log(monkeypatch):
    lines = []
    monkeypatch.setattr(folded, 'print_log', lambda line, **kwargs: lines.append(line))
    return lines


# -- what is folded ----------------------------------------------------------------------------------------------------


def folds(way, taps=TAPS, **options) -> tuple[StepTeacher, nn.Module]:
    steps = StepTeacher(Teacher(Block(way, **options)), taps, fold=True)
    return steps, steps(images())


@pytest.mark.parametrize(
    ('options', 'taps'),
    [({}, TAPS), ({}, {'backbone.norm': 1}), (dict(norm=nn.SyncBatchNorm), TAPS), (dict(affine=False), TAPS)],
)
def test_a_norm_that_alone_takes_what_a_convolution_gives_is_folded(options, taps):
    """Also one whose output is the feature, which keeps its name."""
    steps, network = folds(lambda self, x: self.norm(self.conv(x)).relu_(), taps, **options)
    assert norms_left(network) == 1 and isinstance(network.backbone.norm, nn.Identity)
    assert steps(images()) is network, 'made once'
    ours, theirs = (features_at(each, images(), taps) for each in (network, steps.teacher))
    assert ours.keys() == theirs.keys() == taps.keys()
    assert all(torch.allclose(a, b, atol=1e-5) for path in taps for a, b in zip(ours[path], theirs[path], strict=True))
    assert norms_left(steps.teacher) == 2 and not any(module.training for module in network.modules())


@pytest.mark.parametrize(
    'way',
    [
        lambda self, x: (
            self.norm(self.conv(x)) + self.other(self.conv(x))
        ),  # a head's convolution, a norm for each level
        lambda self, x: self.norm(self.conv(self.norm(self.conv(x)))),
        lambda self, x: self.norm(self.conv(x)) + self.norm(x),
        lambda self, x: self.conv(self.norm(x).relu()),  # before the activation
        lambda self, x: self.conv(self.norm(self.conv(x)).relu()),
        lambda self, x: self.norm(self.conv(x) * 2),
        lambda self, x: self.norm(self.conv(x).relu_()),
        lambda self, x: (lambda y: self.norm(y) + y)(self.conv(x)),
        lambda self, x: (lambda y: self.norm(y) + 1e-9 * y.mean())(self.conv(x)),  # too little for a comparison
        lambda self, x: (lambda y: self.norm(y) + self.other(y))(self.conv(x)),
        lambda self, x: self.norm(nn.functional.conv2d(x, self.conv.weight)),
    ],
)
def test_no_other_norm_is(way, log):
    steps, network = folds(way)
    assert network is steps.teacher and not log


def test_nor_is_one_whose_convolution_is_a_tap_has_hooks_or_is_of_another_kind(log):
    way = lambda self, x: self.norm(self.conv(x))  # noqa: E731
    assert norms_left(folds(way, {'backbone.conv': 1, 'backbone': 1})[1]) == 2
    for options in (dict(track_running_stats=False), dict(norm=lambda n: nn.InstanceNorm2d(n, affine=True))):
        assert norms_left(folds(way, **options)[1]) == norms_left(Teacher(Block(way, **options)))
    for change in (
        lambda block: block.norm.train(),
        lambda block: block.conv.register_forward_hook(lambda module, args, output: output * 2),
        lambda block: block.norm.register_forward_hook(lambda module, args, output: None),
        lambda block: nn.utils.parametrizations.weight_norm(block.conv),
        lambda block: setattr(block.conv, 'forward', lambda x: 2 * x),
    ):
        teacher = Teacher(Block(way))
        change(teacher.backbone)
        assert StepTeacher(teacher, TAPS, fold=True)(images()) is teacher
    assert not log


def test_what_does_not_give_the_features_of_the_teacher_is_not_run(log):
    """A network that looks at its own norm, one that cannot be copied, and one that changes itself."""

    def looks(self, x):
        x = self.norm(self.conv(x))
        return x if isinstance(self.norm, nn.BatchNorm2d) else x + 0.01

    steps, network = folds(looks)
    assert network is steps.teacher and 'runs as it is: with its norms folded its features differ by' in log.pop()
    steps, network = folds(lambda self, x: self.norm(self.conv(x)) * self.norm.eps)
    assert network is steps.teacher and "'Identity' object has no attribute 'eps'" in log.pop()
    assert steps(images()) is network and not log, 'said once'
    steps, network = folds(lambda self, x: self.norm(self.conv(x)) + self.norm.running_mean.zero_().sum())
    for _ in range(2 * folded.MOST):
        network = steps(images())
    assert network is steps.teacher and 'again and again' in log[-1] and len(log) <= folded.MOST + 1


def test_a_copy_follows_its_teacher():
    """Weights that are loaded, devices and types."""
    steps, network = folds(lambda self, x: self.norm(self.conv(x)))
    teacher = steps.teacher
    teacher.load_state_dict({name: value * 2 for name, value in teacher.state_dict().items()})
    again = steps(images())
    assert again is not network
    assert torch.allclose(again.extract_feat(images()), teacher.extract_feat(images()), atol=1e-4)
    teacher.double()
    assert {parameter.dtype for parameter in steps(images().double()).parameters()} == {torch.float64}


# -- weights that autocast would cast in each step ---------------------------------------------------------------------


def test_autocast_casts_what_is_frozen_in_each_forward():
    """As PyTorch does it, which is what the copy is for: of what trains it keeps the cast for the length of the context."""
    layer, casts = nn.Linear(4, 4), {}
    for trains in (True, False):
        layer.requires_grad_(trains)
        with torch.autocast('cpu', BF16), Operations() as operations:
            for _ in range(3):
                layer(torch.zeros(1, 4, dtype=BF16))
        casts[trains] = operations.of('_to_copy')
    assert casts == {True: 2, False: 6}


def test_under_autocast_no_weight_of_the_teacher_is_cast_in_a_step(teacher_path, log):
    counts = {}
    for fold in (False, True):
        model = phase(build(teacher_path, fold_teacher=fold), train='layer2').train()
        with torch.autocast('cpu', BF16):
            model(IMAGES, None, mode='loss')  # the copy is made
            with Operations() as counts[fold]:
                model._teacher_outputs(IMAGES, model.phase)
    # the stem, two blocks of layer1 and of layer2 with its shortcut
    assert counts[False].of('convolution') == counts[True].of('convolution') == 10
    assert counts[False].names['aten::_to_copy', (torch.float32, BF16)] == 11  # the image too
    assert counts[True].names['aten::_to_copy', (torch.float32, BF16)] == 1
    assert (counts[False].of('native_batch_norm'), counts[True].of('native_batch_norm')) == (10, 0)
    assert 'has 15 of its 15 batch normalizations folded into convolutions and 30 weights in bfloat16' in log[-1]
    network = model.step_teacher.copy
    assert {p.dtype for name, p in network.named_parameters() if 'conv' in name} == {BF16}
    assert {p.dtype for p in network.head.parameters()} == {torch.float32}, 'which no step runs'
    assert {p.dtype for p in model.teacher.parameters()} == {torch.float32}


def test_the_error_of_the_cast_copy_is_that_of_autocast(teacher_path):
    """Shares of the feature's size by which it differs from float32: 0.4 % for both."""
    model = build(teacher_path, fold_teacher=True)
    taps = {stage.tap: 1 for stage in model.teacher_stages.values()}
    exact = features_at(model.teacher, IMAGES, taps)
    with torch.autocast('cpu', BF16), torch.no_grad():
        network = dict(autocast=model.teacher, copy=model.step_teacher(IMAGES))
        errors = {name: folded._error(features_at(each, IMAGES, taps), exact) for name, each in network.items()}
    print('relative error of features in bfloat16:', errors)
    assert network['copy'] is not model.teacher
    assert 1e-3 < errors['autocast'] < 1e-2 and errors['copy'] == pytest.approx(errors['autocast'], rel=0.3)


def test_weights_that_are_tied_or_used_in_another_way(log):
    """Attention has no convolution; a tied weight is cast once; one that is also used as it is stays so."""

    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second, self.third = (nn.Linear(8, 8, bias=False) for _ in range(3))
            self.second.weight = self.first.weight
            self.norm = nn.LayerNorm(8)

        def forward(self, x):
            return self.norm(self.third(self.second(self.first(x)))) + self.third.weight.sum()

    teacher = Teacher(Tied())
    with torch.autocast('cpu', BF16):
        network = StepTeacher(teacher, TAPS, fold=True)(images()).backbone
    assert network.first.weight is network.second.weight and network.first.weight.dtype == BF16
    assert network.third.weight is teacher.backbone.third.weight and network.norm.weight.dtype == torch.float32
    assert 'has 0 of its 0 batch normalizations folded into convolutions and 1 weights in bfloat16' in log[-1]


def test_a_copy_that_is_further_from_float32_than_autocast_is_not_run(log, monkeypatch):
    monkeypatch.setattr(folded, 'MORE', 0)
    teacher = Teacher(Block(lambda self, x: self.norm(self.conv(x))))
    with torch.autocast('cpu', BF16):
        assert StepTeacher(teacher, TAPS, fold=True)(images()) is teacher
    assert (
        'runs as it is: with norms folded and weights in bfloat16 its features differ from those in float32' in log[0]
    )


# -- in a distiller ----------------------------------------------------------------------------------------------------


def test_only_training_steps_see_the_copy(teacher_path, log):
    """Neither state dict, copies nor the teacher's own forwards, and nobody where nothing is asked for on a CPU."""
    model = phase(build(teacher_path, fold_teacher=True, logits='head.fc'), train='layer1', logits=True).train()
    other = phase(build(teacher_path, logits='head.fc'), train='layer1', logits=True).train()
    before = {name: value.clone() for name, value in model.teacher.state_dict().items()}
    losses, plain = (each.loss(IMAGES) for each in (model, other))
    assert losses.keys() == plain.keys() and all(
        losses[key].item() == pytest.approx(plain[key].item(), rel=1e-5) for key in plain
    )
    network = model.step_teacher.copy
    assert norms_left(network) == 0 and other.step_teacher.copy is other.teacher and len(log) == 1
    assert model.state_dict().keys() == other.state_dict().keys() and same(before, model.teacher.state_dict())
    assert {id(p) for p in network.head.parameters()} == {id(p) for p in model.teacher.head.parameters()}, 'shared'
    assert not {id(p) for p in network.parameters()} & {id(p) for p in model.parameters()}
    assert torch.equal(
        model.teacher_features(IMAGES, ['layer1'])['layer1'][0], other.teacher_features(IMAGES, ['layer1'])['layer1'][0]
    )
    assert copy.deepcopy(model).step_teacher is model.step_teacher
    with pytest.raises(ConfigError, match=r"model.fold_teacher must be True, False, or None \(on a GPU\), found 'yes'"):
        build(teacher_path, fold_teacher='yes')


def test_a_step_has_as_many_operations_less_as_norms_are_folded(teacher_path):
    counts, student = {}, classifier(depth=8)
    for fold in (False, True):
        model = phase(build(teacher_path, fold_teacher=fold, student=student), train='layer3').train()
        wrapper = OptimWrapper(torch.optim.SGD(model.student.parameters(), 0.1))
        model.train_step(dict(inputs=list(IMAGES)), wrapper)
        with Operations() as counts[fold]:
            model.train_step(dict(inputs=list(IMAGES)), wrapper)
    less = counts[False].names - counts[True].names
    assert less == {('aten::native_batch_norm', ''): 15, ('aten::empty', ''): 15}
    assert not counts[True].names - counts[False].names
