"""The losses against formulas written out by hand, and what is logged against brute force over a whole validation set."""

import numpy as np
import pytest
import torch
from helpers import loader, run_cfg, save_weights, train

from mmsskd.distill.losses import AgreementMeter, CosineMimicLoss, FeatureMimicLoss
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
