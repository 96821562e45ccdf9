"""The losses against formulas written out by hand, and what is logged against brute force over a whole validation set."""

import numpy as np
import pytest
import torch
from helpers import loader, run_cfg, same, save_weights, train, weights
from mmengine.structures import BaseDataElement

from mmsskd.distill.losses import (
    AgreementMeter,
    BalancedMimicLoss,
    CosineMimicLoss,
    CWDLoss,
    FeatureMimicLoss,
    ForegroundMimicLoss,
    MGDLoss,
    PKDLoss,
    _variance_in_few_kernels,
    channel_variance,
)
from mmsskd.errors import ConfigError

SHAPES = [(6, 5, 4, 3), (6, 7, 5), (6, 5)]  # maps, tokens, vectors


def pair(shape, seed=0, scale=1.0):
    generator = torch.Generator().manual_seed(seed)
    teacher = torch.randn(shape, generator=generator) * scale + 3
    return teacher + 0.5 * torch.randn(shape, generator=generator), teacher


def explained(student, teacher):
    """Unexplained share of the variance, in numpy, channel by channel."""
    s, t = student.double().numpy(), teacher.double().numpy()
    if t.ndim == 4:
        s, t = np.moveaxis(s, 1, -1), np.moveaxis(t, 1, -1)
    s, t = s.reshape(-1, s.shape[-1]), t.reshape(-1, t.shape[-1])
    return ((s - t) ** 2).sum() / sum(((t[:, c] - t[:, c].mean()) ** 2).sum() for c in range(t.shape[1]))


@pytest.mark.parametrize('shape', SHAPES)
def test_variance_normalised_value(shape):
    student, teacher = pair(shape)
    assert FeatureMimicLoss()((student,), (teacher,)).item() == pytest.approx(explained(student, teacher), rel=1e-5)


@pytest.mark.parametrize('shape', SHAPES)
@pytest.mark.parametrize('normalize', ['variance', 'none'])
def test_gradient(shape, normalize):
    student, teacher = (tensor.double().requires_grad_() for tensor in pair(shape))
    loss = FeatureMimicLoss(normalize, loss_weight=2.0)((student,), (teacher,))
    loss.backward()
    with torch.no_grad():
        expected = 2 * 2 * (student - teacher) / student.numel()
        if normalize == 'variance':
            expected /= explained(student, teacher) ** -1 * torch.mean((student - teacher) ** 2)
    torch.testing.assert_close(student.grad, expected, rtol=1e-5, atol=1e-9)
    assert teacher.grad is None


def test_raw_value_is_the_mean_squared_error():
    student, teacher = pair((6, 5, 4, 3))
    loss = FeatureMimicLoss('none')((student,), (teacher,))
    assert loss.item() == pytest.approx(float(((student - teacher) ** 2).mean()), rel=1e-6)


def test_scale_cancels():
    losses = [
        FeatureMimicLoss()(*((1e3 * t,) for t in pair((6, 5, 4, 3)))),
        FeatureMimicLoss()(*((t,) for t in pair((6, 5, 4, 3)))),
    ]
    assert losses[0].item() == pytest.approx(losses[1].item(), rel=1e-5)


def test_constant_student_scores_one_and_a_copy_scores_zero():
    _, teacher = pair((6, 5, 4, 3))
    mean = teacher.mean((0, 2, 3), keepdim=True).expand_as(teacher)
    assert FeatureMimicLoss()((mean,), (teacher,)).item() == pytest.approx(1, rel=1e-5)
    assert FeatureMimicLoss()((teacher,), (teacher,)).item() == 0


def test_levels_are_averaged():
    pairs = [pair((2, 3, 8, 8), 1), pair((2, 3, 4, 4), 2, scale=10)]
    loss = FeatureMimicLoss()(*zip(*pairs))
    assert loss.item() == pytest.approx(np.mean([explained(*p) for p in pairs]), rel=1e-5)


def test_computed_in_fp32_outside_autocast():
    student, teacher = pair((6, 5, 4, 3))
    student, teacher = student.bfloat16(), teacher.bfloat16()
    with torch.autocast('cpu', dtype=torch.bfloat16):
        loss = FeatureMimicLoss()((student,), (teacher,))
        seen = []
        handle = torch.nn.functional.mse_loss
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(
                torch.nn.functional,
                'mse_loss',
                lambda s, t: seen.append(torch.is_autocast_enabled('cpu')) or handle(s, t),
            )
            FeatureMimicLoss()((student,), (teacher,))
    assert seen == [False]
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(explained(student.float(), teacher.float()), rel=1e-5)


def test_a_teacher_feature_without_variance_does_not_ruin_the_weights():
    """A batch of one vector has no variance (the last batch of an epoch can be one), nor has a dead or a constant feature."""
    loss, teacher = FeatureMimicLoss(), torch.randn(1, 6)
    assert loss((torch.zeros(1, 6),), (teacher,)).item() == pytest.approx(1.0)
    assert loss((torch.full((2, 3, 4, 4), 3.0),), (torch.zeros(2, 3, 4, 4),)).item() == 9.0
    assert loss((torch.full((2, 3, 4, 4), 5.0),), (torch.full((2, 3, 4, 4), 4.0),)).item() == pytest.approx(1e4 / 16)
    meter = AgreementMeter()
    meter.update((torch.zeros(1, 6),), (teacher,))
    assert meter.compute()[0].item() == pytest.approx(1.0)


def test_the_variance_of_a_gpu_is_that_of_a_cpu():
    """The formula with few kernels, on features of any form, with a large mean, of one value, of none but zeros."""
    features = [pair(shape)[1] for shape in SHAPES] + [
        100 + pair((4, 3, 5, 5))[1],
        torch.randn(1, 6),
        torch.zeros(2, 3, 4, 4),
    ]
    for feature in features:
        torch.testing.assert_close(_variance_in_few_kernels(feature), channel_variance(feature), rtol=2e-4, atol=0)


def test_a_last_batch_of_one_vector_trains_on(tmp_path):
    """The last stage of this ConvNeXt is a vector, and 33 images leave a batch of one."""
    arch = dict(depths=[1, 1], channels=[8, 16])
    model = dict(
        type='mmpretrain.ImageClassifier',
        data_preprocessor=dict(type='mmpretrain.ClsDataPreprocessor', mean=[127.5], std=[127.5]),
        backbone=dict(type='mmpretrain.ConvNeXt', arch=arch, in_channels=1, stem_patch_size=2, out_indices=1),
        head=dict(type='mmpretrain.LinearClsHead', num_classes=10, in_channels=16, topk=(1,)),
    )
    teacher = save_weights(model, tmp_path / 'teacher.pth')
    cfg = run_cfg(tmp_path, teacher, teacher=model, student=model, train_dataloader=loader(count=33))
    runner = train(cfg)
    assert all(torch.isfinite(parameter).all() for parameter in runner.model.parameters())
    assert runner.model.stages['stages.1'].shapes == ((16,),)


def test_unknown_normalisation():
    with pytest.raises(ConfigError, match="normalize must be 'variance' or 'none', found 'l2'"):
        FeatureMimicLoss('l2')


def test_meter_over_batches_is_the_whole_set():
    student, teacher = pair((10, 5, 4, 3), scale=2)
    meter = AgreementMeter()
    for part in (slice(0, 3), slice(3, 4), slice(4, 10)):
        meter.update((student[part],), (teacher[part],))
    error, cosine = meter.compute()
    assert error.item() == pytest.approx(explained(student, teacher), rel=1e-5)
    s, t = student.flatten(1).double(), teacher.flatten(1).double()
    expected = ((s * t).sum(1) / (s.norm(dim=1) * t.norm(dim=1))).mean()
    assert cosine.item() == pytest.approx(expected.item(), rel=1e-6)


def test_logged_validation_error_is_that_of_the_whole_validation_set(tmp_path, teacher_path):
    runner = train(run_cfg(tmp_path, teacher_path, hook=dict(phases=[dict(train='layer1'), dict(train='layer2')])))
    model = runner.model.eval()
    features = {'student': [], 'teacher': []}
    for data in runner.val_dataloader:
        images = model.data_preprocessor(data, False)['inputs']
        for side, values in features.items():
            backbone = getattr(model, side).backbone
            values.append(
                backbone.layer2(backbone.layer1(backbone.relu(backbone.bn1(backbone.conv1(images))))).detach()
            )
    expected = explained(torch.cat(features['student']), torch.cat(features['teacher']))
    assert runner.message_hub.get_scalar('val/relative_error_layer2').current() == pytest.approx(expected, rel=1e-4)


def vectors(seed=0, shape=(6, 5)):
    rng = np.random.default_rng(seed)
    return rng.normal(size=shape).astype(np.float32), rng.normal(size=shape).astype(np.float32)


def cosine_by_numpy(s, t):
    return np.mean([1 - np.dot(a, b) / np.linalg.norm(a) / np.linalg.norm(b) for a, b in zip(s, t)])


def test_cosine_loss_is_one_minus_the_cosine():
    s, t = vectors()
    assert CosineMimicLoss()((torch.tensor(s),), (torch.tensor(t),)).item() == pytest.approx(
        cosine_by_numpy(s, t), abs=1e-6
    )
    assert CosineMimicLoss(loss_weight=3.0)((torch.tensor(s),), (torch.tensor(2 * s),)).item() == pytest.approx(
        0, abs=1e-6
    )
    assert CosineMimicLoss()((torch.tensor(s),), (torch.tensor(-s),)).item() == pytest.approx(2, abs=1e-6)


def test_cosine_gradient_is_that_of_differences_and_none_reaches_the_teacher():
    s, t = vectors(1)
    student, teacher = torch.tensor(s, requires_grad=True), torch.tensor(t, requires_grad=True)
    CosineMimicLoss()((student,), (teacher,)).backward()
    step = 1e-3
    for place in ((0, 0), (2, 3), (5, 4)):
        up, down = s.astype(np.float64), s.astype(np.float64)
        up[place] += step
        down[place] -= step
        assert student.grad[place].item() == pytest.approx(
            (cosine_by_numpy(up, t) - cosine_by_numpy(down, t)) / (2 * step), abs=1e-5
        )
    assert teacher.grad is None


def test_cosine_loss_is_half_the_distance_of_the_normalised_vectors():
    s, t = (torch.tensor(x) for x in vectors(2))
    unit = [torch.nn.functional.normalize(x) for x in (s, t)]
    assert CosineMimicLoss()((s,), (t,)) * 2 == pytest.approx(
        (unit[0] - unit[1]).square().sum(1).mean().item(), abs=1e-6
    )


def test_a_zero_vector_and_half_precision_give_a_finite_gradient():
    student = torch.zeros(2, 4, dtype=torch.float16, requires_grad=True)
    CosineMimicLoss()((student,), (torch.ones(2, 4, dtype=torch.float16),)).backward()
    assert torch.isfinite(student.grad).all()


def test_cosine_of_a_map_is_that_of_its_places():
    """Over the channels: the tokens of the same places give the same, and so does numpy."""
    s, t = vectors(3, (2, 5, 3, 4))
    rows = [x.transpose(0, 2, 3, 1).reshape(-1, 5) for x in (s, t)]
    loss = CosineMimicLoss()((torch.tensor(s),), (torch.tensor(t),)).item()
    assert loss == pytest.approx(cosine_by_numpy(*rows), abs=1e-6)
    tokens = [torch.tensor(x).flatten(2).transpose(1, 2) for x in (s, t)]
    assert CosineMimicLoss()(tokens[:1], tokens[1:]).item() == pytest.approx(loss, abs=1e-6)


def test_one_stage_has_a_loss_of_its_own(tmp_path, teacher_path):
    losses = {'layer3': dict(type='mmsskd.CosineMimicLoss')}
    runner = train(run_cfg(tmp_path, teacher_path, **{'model.mimic_loss': losses}))
    kinds = [type(runner.model.mimic_loss_of(stage)) for stage in ('layer1', 'layer2', 'layer3')]
    assert kinds == [FeatureMimicLoss, FeatureMimicLoss, CosineMimicLoss]


def test_a_loss_for_a_stage_that_is_not_there(tmp_path, teacher_path):
    losses = {'layer9': dict(type='mmsskd.CosineMimicLoss')}
    with pytest.raises(ConfigError, match=r"mimic_loss, a dict by stage: unknown field 'layer9'; did you mean 'layer"):
        train(run_cfg(tmp_path, teacher_path, **{'model.mimic_loss': losses}))


def rows(tensor):
    """A feature in numpy: for each image, C rows of its places."""
    array = tensor.double().numpy()
    if array.ndim == 2:
        return array[:, :, None]
    return array.reshape(*array.shape[:2], -1) if array.ndim == 4 else np.moveaxis(array, 1, 2)


def softmax(x):
    return np.exp(x) / np.exp(x).sum()


def correlation_by_numpy(s, t):
    return np.mean([1 - np.corrcoef(s[:, c].ravel(), t[:, c].ravel())[0, 1] for c in range(s.shape[1])])


def cwd_by_numpy(s, t, temperature=3.0):
    divergences = []
    for image in range(len(s)):
        for channel in range(s.shape[1]):
            p, q = (softmax(x[image, channel] / temperature) for x in (t, s))
            divergences.append(temperature**2 * (p * np.log(p / q)).sum())
    return np.mean(divergences)


def balanced_by_numpy(s, t):
    d = np.abs(s - t)
    cosines = [
        1 - np.dot(s[n, :, i], t[n, :, i]) / np.linalg.norm(s[n, :, i]) / np.linalg.norm(t[n, :, i])
        for n in range(len(s))
        for i in range(s.shape[2])
    ]
    return 0.7 * np.mean(cosines) + 0.3 * np.where(d < 1, d * d / 2, d - 0.5).mean()


BY_NUMPY = {
    'pkd': (PKDLoss(), correlation_by_numpy),
    'cwd': (CWDLoss(temperature=3.0), cwd_by_numpy),
    'balanced': (BalancedMimicLoss(cosine=0.7, smooth_l1=0.3), balanced_by_numpy),
}


@pytest.mark.parametrize('shape', SHAPES)
@pytest.mark.parametrize('name', BY_NUMPY)
def test_loss_is_its_formula(name, shape):
    """The value, and the gradient by differences; of two tensors the mean; none reaches the teacher."""
    loss, formula = BY_NUMPY[name]
    if (name, len(shape)) == ('cwd', 2):
        with pytest.raises(ConfigError, match='CWDLoss compares where in the image .* the feature is a vector'):
            loss(*((tensor,) for tensor in pair(shape)))
        return
    student, teacher = pair(shape)
    student.requires_grad_()
    teacher.requires_grad_()
    value = loss((student,), (teacher,))
    s, t = rows(student.detach()), rows(teacher.detach())
    assert value.item() == pytest.approx(formula(s, t), rel=1e-4)
    value.backward()
    assert teacher.grad is None
    step, place = 1e-4, (1, 2, 0)
    up, down = s.copy(), s.copy()
    up[place] += step
    down[place] -= step
    expected = (formula(up, t) - formula(down, t)) / (2 * step)
    assert rows(student.grad)[place] == pytest.approx(expected, rel=1e-2, abs=1e-6)
    other = pair(shape, seed=1)
    both = loss((student, other[0]), (teacher, other[1])).item()
    assert both == pytest.approx((value.item() + formula(*map(rows, other))) / 2, rel=1e-4)


@pytest.mark.parametrize('loss', [PKDLoss(), CWDLoss(), BalancedMimicLoss()])
def test_dead_features_give_a_finite_gradient(loss):
    student = torch.zeros(1, 3, 2, 2, dtype=torch.float16, requires_grad=True)
    value = loss((student,), (torch.zeros(1, 3, 2, 2, dtype=torch.float16),))
    value.backward()
    assert value.dtype == torch.float32 and torch.isfinite(value) and torch.isfinite(student.grad).all()


IMAGE = (40, 24)  # height and width of a batch whose maps of 5x3 places have a stride of 8
BOXES = [
    [[1, 1, 15, 39], [9, 10, 11, 12], [16, 8, 16, 8]],  # one in another; one without a size
    [[0, 0, 24, 40]],  # all of the image
    [],
]


def boxed(boxes=BOXES, image=IMAGE):
    """Data samples as mmdet's preprocessor leaves them."""
    out = []
    for each in boxes:
        out.append(BaseDataElement(metainfo=dict(batch_input_shape=image)))
        out[-1].gt_instances = BaseDataElement(bboxes=torch.tensor(each, dtype=torch.float32).view(-1, 4))
    return out


def foreground_by_loops(s, t, background, boxes=BOXES, image=IMAGE):
    """Place by place: the smallest box that touches it, by the pixels of both."""
    weight, (height, width) = np.zeros((len(s), 1, *s.shape[2:])), s.shape[2:]
    tall, wide = image[0] / height, image[1] / width
    for n, of_image in enumerate(boxes):
        places = [set() for _ in of_image]
        for own, (left, top, right, bottom) in zip(places, of_image):
            for i in range(height):
                for j in range(width):
                    across = left < (j + 1) * wide and max(right, left + 1) > j * wide
                    if across and top < (i + 1) * tall and max(bottom, top + 1) > i * tall:
                        own.add((i, j))
        free = {(i, j) for i in range(height) for j in range(width)} - set().union(*places)
        for i in range(height):
            for j in range(width):
                sizes = [len(each) for each in places if (i, j) in each]
                weight[n, 0, i, j] = 1 / min(sizes) if sizes else background / len(free)
    weight /= weight.mean()
    variance = np.mean([t[:, c].var() for c in range(t.shape[1])])
    return (weight * (s - t) ** 2).mean() / variance


@pytest.mark.parametrize('background', [0.5, 0])
def test_foreground_is_its_formula(background):
    """The value and the gradient; of two levels the mean, each with a stride of its own."""
    loss = ForegroundMimicLoss(shapes=[(4, 5, 3)], background=background)
    student, teacher = pair((3, 4, 5, 3))
    student.requires_grad_()
    teacher.requires_grad_()
    value = loss((student,), (teacher,), data_samples=boxed())
    s, t = student.detach().double().numpy(), teacher.detach().double().numpy()
    assert value.item() == pytest.approx(foreground_by_loops(s, t, background), rel=1e-4)
    value.backward()
    assert teacher.grad is None
    for place in ((0, 1, 1, 1), (0, 2, 0, 2), (1, 0, 4, 2), (2, 3, 3, 0)):
        up, down = s.copy(), s.copy()
        up[place] += 1e-4
        down[place] -= 1e-4
        expected = (foreground_by_loops(up, t, background) - foreground_by_loops(down, t, background)) / 2e-4
        assert student.grad[place].item() == pytest.approx(expected, rel=1e-2, abs=1e-6)
    other = pair((3, 4, 10, 6), seed=1)
    both = loss((student, other[0]), (teacher, other[1]), data_samples=boxed()).item()
    fine = foreground_by_loops(*(x.double().numpy() for x in other), background)
    assert both == pytest.approx((value.item() + fine) / 2, rel=1e-4)


def test_without_any_box_the_background_is_all_there_is():
    student, teacher = pair((2, 4, 5, 3))
    values = [
        ForegroundMimicLoss(shapes=[(4, 5, 3)], background=background)(
            (student,), (teacher,), data_samples=boxed([[], []])
        )
        for background in (0.5, 0)
    ]
    assert values[0].item() == pytest.approx(FeatureMimicLoss()((student,), (teacher,)).item(), rel=1e-5)
    assert values[1].item() == 0


@pytest.mark.parametrize(
    ('found', 'samples'),
    [('NoneType', None), ('BaseDataElement', [BaseDataElement()]), ('BaseDataElement', boxed([[]], image=None))],
)
def test_foreground_refuses_a_batch_without_boxes(found, samples):
    if samples and 'gt_instances' in samples[0]:
        samples[0].set_metainfo(dict(batch_input_shape=None))
    with pytest.raises(ConfigError, match=rf'weighs by the boxes of a detector.*found {found}.*take FeatureMimicLoss'):
        ForegroundMimicLoss(shapes=[(4, 5, 3)])(*((x,) for x in pair((1, 4, 5, 3))), data_samples=samples)


def test_foreground_refuses_what_has_no_places():
    with pytest.raises(ConfigError, match=r'weighs the places of maps, but the feature has a tensor of shape \(7,\)'):
        ForegroundMimicLoss(shapes=[(4, 5, 3), (7,)])
    with pytest.raises(ConfigError, match='ForegroundMimicLoss.background must be a number of at least 0, found -1'):
        ForegroundMimicLoss(shapes=[(4, 5, 3)], background=-1)


def test_a_classifier_with_a_loss_that_wants_boxes_is_refused_before_training(tmp_path, teacher_path):
    losses = dict(type='mmsskd.ForegroundMimicLoss')
    with pytest.raises(ConfigError, match='weighs by the boxes of a detector.* found DataSample'):
        train(run_cfg(tmp_path, teacher_path, **{'model.mimic_loss': losses}))
    assert not list(tmp_path.glob('*.pth'))


def test_mgd_generates_the_teacher_from_what_the_mask_leaves():
    """Against convolutions written out, with the mask that the seed gives."""
    student, teacher = pair((2, 3, 4, 5))
    torch.manual_seed(0)
    loss = MGDLoss(shapes=[(3, 4, 5)], mask=0.4, normalize='none', loss_weight=2.0)
    torch.manual_seed(1)
    value = loss((student,), (teacher,)).item()
    torch.manual_seed(1)
    keep = (torch.rand(2, 1, 4, 5) >= 0.4).numpy()
    assert 0 < keep.mean() < 1
    x = student.numpy() * keep
    w = {name: parameter.detach().numpy() for name, parameter in loss.named_parameters()}
    for layer in (0, 2):
        padded, out = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1))), np.zeros_like(x)
        for i in range(3):
            for j in range(3):
                kernel = w[f'generators.0.{layer}.weight'][:, :, i, j]
                out += np.einsum('oc,nchw->nohw', kernel, padded[:, :, i : i + 4, j : j + 5])
        x = out + w[f'generators.0.{layer}.bias'][None, :, None, None]
        x = np.maximum(x, 0) if layer == 0 else x
    assert value == pytest.approx(2 * ((x - teacher.numpy()) ** 2).mean(), rel=1e-4)


def test_mgd_refuses_what_it_cannot_generate(teacher_path):
    with pytest.raises(ConfigError, match=r'MGDLoss generates maps .* a tensor of shape \(7,\)'):
        MGDLoss(shapes=[(7,)])
    with pytest.raises(ConfigError, match=r'MGDLoss.mask must be a share .* found 1'):
        MGDLoss(shapes=[(3, 4, 4)], mask=1)


MGD = {'model.mimic_loss': dict(layer1=dict(type='mmsskd.MGDLoss'), layer2=dict(type='mmsskd.MGDLoss'))}


def test_weights_of_a_loss_train_with_their_stage(tmp_path, teacher_path):
    """They are in the phase's optimizer and in its checkpoints, frozen to the bit afterwards, and not in the student."""
    train(run_cfg(tmp_path, teacher_path, **MGD))
    before, first, second, last = (
        weights(tmp_path / f'{name}.pth') for name in ('phase1_layer1', 'phase2_layer2', 'phase3_layer3', 'epoch_4')
    )
    own = {
        stage: [name for name in last if name.startswith(f'mimic_losses.{stage}.')] for stage in ('layer1', 'layer2')
    }
    assert [len(names) for names in own.values()] == [4, 4]
    assert same(before, first, own['layer1']) and same(before, last, own['layer1'])
    assert not any(torch.equal(before[name], first[name]) for name in own['layer2'])
    assert same(first, second, own['layer2']) and same(first, last, own['layer2'])
    plain = weights(tmp_path / 'student.pth')
    assert plain and not [name for name in plain if name.startswith('mimic_losses')]
    assert set(plain) == {name for name in last if not name.startswith(('mimic_losses', 'adapters'))}


@pytest.mark.slow
def test_weights_of_a_loss_resume_to_the_bit(tmp_path, teacher_path):
    phases = dict(phases=[dict(train='layer1', epochs=2), dict(train='layer2')])
    whole = train(run_cfg(tmp_path / 'whole', teacher_path, hook=phases, **MGD)).model.state_dict()
    cfg = run_cfg(tmp_path / 'resumed', teacher_path, hook=phases, **MGD)
    cfg.load_from, cfg.resume = str(tmp_path / 'whole/epoch_1.pth'), True  # within the first phase
    resumed = train(cfg).model.state_dict()
    assert set(whole) == set(resumed) and same(whole, resumed)
