"""MarginClsHead: values and gradients against formulas in numpy and plain torch, also at cosines of 1 and -1."""

import math

import numpy as np
import pytest
import torch
from mmengine.registry import DefaultScope
from mmpretrain.models import ImageClassifier
from mmpretrain.structures import DataSample
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from mmsskd.errors import ConfigError
from mmsskd.face.models import MarginClsHead
from mmsskd.face.models.margin_softmax import MarginSoftmaxLoss, with_margin

KINDS = {
    'arcface': dict(margin='arcface', m=0.5),
    'cosface': dict(margin='cosface', m=0.35),
    'combined': dict(margin='combined', m=(1.0, 0.3, 0.2)),
    'steep': dict(margin='combined', m=(1.35, 0.2, 0.1)),
    'shallow': dict(margin='combined', m=(0.9, 0.4, 0.15)),
}
MARGINS = dict(
    arcface=(1, 0.5, 0), cosface=(1, 0, 0.35), combined=(1, 0.3, 0.2), steep=(1.35, 0.2, 0.1), shallow=(0.9, 0.4, 0.15)
)
each_kind = pytest.mark.parametrize('kind', KINDS)


def numpy_margin(cosine, m1, m2, m3):
    """ArcFace's united margin in float64, with arcface_torch's rule where the angle passes pi."""
    theta = np.arccos(np.clip(np.float64(cosine), -1, 1))
    edge = (math.pi - m2) / m1
    beyond = np.cos(theta) - max(1 + math.cos(edge), m2 * math.sin(m2)) if edge < math.pi else 0
    return np.where(theta > edge, beyond, np.cos(m1 * theta + m2)) - m3


def samples(labels):
    return [DataSample(img_path=f'{k}.jpg').set_gt_label(int(label)) for k, label in enumerate(labels)]


def make(kind='arcface', classes=7, channels=5, seed=0, **fields):
    torch.manual_seed(seed)
    head = MarginClsHead(classes, channels, **{**KINDS[kind], **fields})
    head.weight.data = torch.randn(classes, channels)
    return head


def numpy_loss(head, feats, labels, margins):
    x, w = feats.detach().double().numpy(), head.weight.detach().double().numpy()
    cosines = (x / np.linalg.norm(x, axis=1, keepdims=True)) @ (w / np.linalg.norm(w, axis=1, keepdims=True)).T
    logits = head.s * cosines
    rows = np.arange(len(labels))
    logits[rows, labels] = head.s * numpy_margin(cosines[rows, labels], *margins)
    logits -= logits.max(axis=1, keepdims=True)
    return (np.log(np.exp(logits).sum(axis=1)) - logits[rows, labels]).mean()


# -- values --------------------------------------------------------------------------------------------------------------


@each_kind
def test_the_margin_is_that_of_the_formula_up_to_the_ends(kind):
    cosine = torch.cat([torch.linspace(-1, 1, 2001), torch.tensor([1.0000002, -1.0000002])])
    value, slope = with_margin(cosine, *MARGINS[kind])
    np.testing.assert_allclose(value.numpy(), numpy_margin(cosine.numpy(), *MARGINS[kind]), atol=2e-5)
    assert torch.isfinite(slope).all() and (slope >= 0).all()


def test_the_margin_of_arcface_is_that_of_known_points():
    value, _ = with_margin(torch.tensor([1.0, 0.0, -1.0]), 1, 0.5, 0)
    np.testing.assert_allclose(value, [math.cos(0.5), -math.sin(0.5), -1 - 0.5 * math.sin(0.5)], rtol=1e-6)
    value, _ = with_margin(torch.tensor([1.0, 0.0, -1.0]), 1, 0, 0.35)
    np.testing.assert_allclose(value, [0.65, -0.35, -1.35], rtol=1e-6)


@each_kind
def test_the_target_logit_falls_with_the_angle_all_the_way(kind):
    cosine = torch.cos(torch.linspace(0, math.pi, 100_001, dtype=torch.float64))
    value, _ = with_margin(cosine, *MARGINS[kind])
    assert (value.diff() < 1e-15).all()


@each_kind
def test_the_slope_is_the_derivative_of_the_margin(kind):
    edge = math.cos((math.pi - MARGINS[kind][1]) / MARGINS[kind][0]) if kind != 'shallow' else -2
    cosine = torch.linspace(-0.99, 0.99, 400, dtype=torch.float64)
    cosine = cosine[(cosine - edge).abs() > 1e-2]
    step = 1e-6
    numeric = (with_margin(cosine + step, *MARGINS[kind])[0] - with_margin(cosine - step, *MARGINS[kind])[0]) / (
        2 * step
    )
    torch.testing.assert_close(with_margin(cosine, *MARGINS[kind])[1], numeric, rtol=1e-6, atol=1e-6)


@each_kind
def test_the_loss_is_that_of_the_formula(kind):
    head = make(kind, classes=50, channels=16)
    feats, labels = 3 * torch.randn(20, 16), np.arange(20)
    feats[:3] = -head.weight[:3].detach()  # angles that pass pi with the margin
    loss = head.loss((feats,), samples(labels))['loss']
    np.testing.assert_allclose(loss.item(), numpy_loss(head, feats, labels, MARGINS[kind]), rtol=1e-4)


def test_only_the_column_of_the_true_class_is_changed():
    head = make()
    feats, labels = torch.randn(4, 5), torch.tensor([0, 6, 2, 2])
    logits = head((feats,))
    expected = logits.clone()
    for row, label in enumerate(labels):
        cosine = F.cosine_similarity(feats[row], head.weight[label], dim=0)
        expected[row, label] = 64 * math.cos(math.acos(cosine.item()) + 0.5)
    loss = head.loss(feats, samples(labels))['loss']
    torch.testing.assert_close(loss, F.cross_entropy(expected, labels), rtol=1e-4, atol=1e-4)
    plain = make(m=0.0).loss(feats, samples(labels))['loss']
    torch.testing.assert_close(plain, F.cross_entropy(logits, labels), rtol=1e-4, atol=1e-4)


def test_defaults_are_those_of_insightface():
    assert MarginClsHead(2).margins == (1, 0.5, 0) and MarginClsHead(2).s == 64
    assert MarginClsHead(2, margin='cosface').margins == (1, 0, 0.4)
    assert 0.009 < MarginClsHead(100).weight.std() < 0.011


# -- gradients -----------------------------------------------------------------------------------------------------------


@each_kind
def test_gradients_are_right(kind):
    torch.manual_seed(0)
    feats, weight = torch.randn(4, 3, dtype=torch.float64), torch.randn(6, 3, dtype=torch.float64)
    feats[3] = -weight[5] + 0.05
    labels = torch.tensor([0, 1, 1, 5])
    inputs = feats.requires_grad_(), weight.requires_grad_()

    def loss(feats, weight):
        return MarginSoftmaxLoss.apply(feats, weight, labels, MARGINS[kind], 4.0)

    assert torch.autograd.gradcheck(loss, inputs)


@each_kind
def test_gradients_are_those_of_autograd_on_plain_operations(kind):
    head = make(kind, classes=30, channels=8)
    labels = torch.arange(10)
    feats = torch.randn(10, 8, requires_grad=True)
    head.loss((feats,), samples(labels))['loss'].backward()
    found = feats.grad.clone(), head.weight.grad.clone()
    feats.grad = head.weight.grad = None
    cosines = F.normalize(feats) @ F.normalize(head.weight).t()
    rows = torch.arange(10)
    m1, m2, m3 = MARGINS[kind]
    own = cosines[rows, labels]
    assert (m1 * own.acos() + m2 < math.pi).all()
    target = torch.cos(m1 * own.acos() + m2) - m3
    F.cross_entropy(head.s * cosines.index_put((rows, labels), target), labels).backward()
    torch.testing.assert_close(found, (feats.grad, head.weight.grad), rtol=1e-3, atol=1e-4)


@each_kind
@pytest.mark.parametrize('sign', [1, -1])
def test_gradients_are_finite_where_a_face_lies_on_a_centre_or_opposite(kind, sign):
    head = make(kind, classes=64, channels=512)
    feats = (sign * 3 * head.weight.detach()).requires_grad_()
    loss = head.loss((feats,), samples(range(64)))['loss']
    loss.backward()
    assert torch.isfinite(loss) and torch.isfinite(feats.grad).all() and torch.isfinite(head.weight.grad).all()
    assert feats.grad.norm(dim=1).max() < 100 and head.weight.grad.norm(dim=1).max() < 100


def test_gradients_are_finite_for_vectors_of_length_zero():
    head = make()
    head.weight.data[2] = 0
    feats = torch.zeros(3, 5, requires_grad=True)
    loss = head.loss((feats,), samples([0, 1, 2]))['loss']
    loss.backward()
    assert torch.isfinite(loss) and torch.isfinite(feats.grad).all() and torch.isfinite(head.weight.grad).all()


def test_a_nan_is_not_hidden():
    assert make().loss(torch.full((2, 5), math.nan), samples([0, 1]))['loss'].isnan()


def test_backward_may_run_twice():
    head = make()
    feats = torch.randn(3, 5, requires_grad=True)
    loss = head.loss(feats, samples([0, 1, 2]))['loss']
    (first,) = torch.autograd.grad(1024 * loss, feats, retain_graph=True)  # as a gradient scaler does
    (again,) = torch.autograd.grad(loss, feats)
    torch.testing.assert_close(first, 1024 * again)


def test_centres_that_are_frozen_get_no_gradient():
    head = make()
    head.weight.requires_grad_(False)
    feats = torch.randn(3, 5, requires_grad=True)
    head.loss(feats, samples([0, 1, 2]))['loss'].backward()
    assert head.weight.grad is None and feats.grad.norm() > 0
    head.weight.requires_grad_(True)
    head.loss(feats.detach(), samples([0, 1, 2]))['loss'].backward()
    assert head.weight.grad.norm() > 0


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_half_precision_features_are_compared_in_full_precision(dtype):
    head = make(classes=20, channels=32)
    feats = torch.randn(8, 32).to(dtype).requires_grad_()
    expected = head.loss(feats.detach().float(), samples(range(8)))['loss']
    with torch.autocast('cpu', dtype=torch.bfloat16):
        loss = head.loss((feats,), samples(range(8)))['loss']
        loss.backward()
        logits = head((feats,))
    assert loss.dtype == torch.float32 and torch.equal(loss, expected)
    assert feats.grad.dtype == dtype and torch.isfinite(feats.grad).all() and head.weight.grad.dtype == torch.float32
    torch.testing.assert_close(logits, head((feats.detach().float(),)), rtol=0, atol=0)


# -- memory --------------------------------------------------------------------------------------------------------------


class Storages(TorchDispatchMode):
    """Notes the storages of at least ``least`` numbers that operations return."""

    def __init__(self, least):
        super().__init__()
        self.least, self.found = least, {}

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, torch.Tensor) and tensor.untyped_storage().nbytes() >= 4 * self.least:
                # kept, so that no address is used again
                self.found.setdefault(tensor.untyped_storage()._cdata, tensor)
        return result


@each_kind
def test_a_step_makes_one_matrix_of_faces_times_classes_and_one_gradient_of_the_centres(kind):
    head = make(kind, classes=5000, channels=64)
    feats, data = torch.randn(64, 64, requires_grad=True), samples(range(64))
    with Storages(64 * 5000) as storages:
        torch.autograd.grad(head.loss((feats,), data)['loss'], [feats, head.weight])
    own = {head.weight.untyped_storage()._cdata}
    made = [tuple(tensor.shape) for key, tensor in storages.found.items() if key not in own]
    assert sorted(made) == [(64, 5000), (5000, 64)]


# -- the head as mmpretrain knows heads, and mistakes --------------------------------------------------------------------


def test_it_is_a_head_of_mmpretrain():
    with DefaultScope.overwrite_default_scope('mmpretrain'):  # whatever a run before has set
        model = ImageClassifier(
            backbone=dict(type='mmsskd.IResNet', depth=18, base_channels=4),
            neck=dict(type='GlobalAveragePooling'),
            head=dict(type='mmsskd.MarginClsHead', num_classes=5, in_channels=32),
        ).eval()
    images = torch.randn(3, 3, 32, 32)
    assert model(images, samples([0, 1, 4]), mode='loss')['loss'] > 0
    predicted = [sample.pred_label.item() for sample in model(images, mode='predict')]
    nearest = F.normalize(model.extract_feat(images)[-1]) @ F.normalize(model.head.weight).t()
    assert predicted == nearest.argmax(dim=1).tolist()


@pytest.mark.parametrize(
    ('fields', 'message'),
    [
        (dict(num_classes=None), 'model.head.num_classes must be the number of people .*, found None'),
        (dict(num_classes=0), 'model.head.num_classes must be .*, found 0'),
        (dict(margin='arkface'), "model.head.margin: there is no 'arkface'; did you mean 'arcface'"),
        (dict(margin='combined'), r'model.head.m must be three numbers \(m1, m2, m3\), .*found None'),
        (dict(margin='arcface', m=(0.5, 0.1)), "model.head.m must be one number for margin='arcface'"),
        (dict(margin='arcface', m='big'), "found 'big'"),
        (dict(margin='arcface', m=-0.1), r'm2 from 0 to below pi, m3 from 0; found \(1.0, -0.1, 0.0\)'),
        (dict(s=0), 'model.head.s must be above 0, found 0'),
    ],
)
def test_a_wrong_field_is_named(fields, message):
    with pytest.raises(ConfigError, match=message):
        MarginClsHead(**{'num_classes': 3, **fields})


def mixed():
    sample = DataSample().set_gt_label(1)
    return [sample.set_gt_score(torch.tensor([0.5, 0.5] + [0.0] * 5))]


@pytest.mark.parametrize(
    ('data', 'message'),
    [
        (samples([7]), r'model.head.num_classes is 7, so labels must be 0 to 6, found \[7\]'),
        (samples([-1]), r'labels must be 0 to 6, found \[-1\]'),
        ([DataSample(img_path='a.jpg')], 'needs one label for each face, found none for a.jpg'),
        ([DataSample().set_gt_label([1, 2])], r'found \[1, 2\] for a sample'),
        (mixed(), 'cannot learn from mixed labels'),
    ],
)
def test_wrong_labels_are_named(data, message):
    with pytest.raises(ConfigError, match=message):
        make().loss((torch.randn(1, 5),), data)


def test_an_embedding_of_another_length_is_named():
    with pytest.raises(
        ConfigError, match=r'model.head.in_channels is 5, but the neck returns \(2, 6\); set it to num_features'
    ):
        make().loss((torch.randn(2, 6),), samples([0, 1]))
