"""The loss of embeddings: values and gradients against numpy's own, and a loss of its own for one stage."""

import numpy as np
import pytest
import torch
from helpers import run_cfg, train

from mmsskd.distill import CosineMimicLoss, FeatureMimicLoss
from mmsskd.errors import ConfigError


def pair(seed=0, shape=(6, 5)):
    rng = np.random.default_rng(seed)
    return rng.normal(size=shape).astype(np.float32), rng.normal(size=shape).astype(np.float32)


def by_numpy(s, t):
    return np.mean([1 - np.dot(a, b) / np.linalg.norm(a) / np.linalg.norm(b) for a, b in zip(s, t)])


def test_value_is_one_minus_the_cosine():
    s, t = pair()
    assert CosineMimicLoss()((torch.tensor(s),), (torch.tensor(t),)).item() == pytest.approx(by_numpy(s, t), abs=1e-6)
    assert CosineMimicLoss(loss_weight=3.0)((torch.tensor(s),), (torch.tensor(2 * s),)).item() == pytest.approx(
        0, abs=1e-6
    )
    assert CosineMimicLoss()((torch.tensor(s),), (torch.tensor(-s),)).item() == pytest.approx(2, abs=1e-6)


def test_gradient_is_that_of_differences_and_none_reaches_the_teacher():
    s, t = pair(1)
    student, teacher = torch.tensor(s, requires_grad=True), torch.tensor(t, requires_grad=True)
    CosineMimicLoss()((student,), (teacher,)).backward()
    step = 1e-3
    for place in ((0, 0), (2, 3), (5, 4)):
        up, down = s.astype(np.float64), s.astype(np.float64)
        up[place] += step
        down[place] -= step
        assert student.grad[place].item() == pytest.approx((by_numpy(up, t) - by_numpy(down, t)) / (2 * step), abs=1e-5)
    assert teacher.grad is None


def test_it_is_half_the_distance_of_the_normalised_vectors():
    s, t = (torch.tensor(x) for x in pair(2))
    unit = [torch.nn.functional.normalize(x) for x in (s, t)]
    assert CosineMimicLoss()((s,), (t,)) * 2 == pytest.approx(
        (unit[0] - unit[1]).square().sum(1).mean().item(), abs=1e-6
    )


def test_a_zero_vector_and_half_precision_give_a_finite_gradient():
    student = torch.zeros(2, 4, dtype=torch.float16, requires_grad=True)
    CosineMimicLoss()((student,), (torch.ones(2, 4, dtype=torch.float16),)).backward()
    assert torch.isfinite(student.grad).all()


def test_one_stage_has_a_loss_of_its_own(tmp_path, teacher_path):
    losses = {'layer3': dict(type='mmsskd.CosineMimicLoss')}
    runner = train(run_cfg(tmp_path, teacher_path, **{'model.mimic_loss': losses}))
    kinds = [type(runner.model.mimic_loss_of(stage)) for stage in ('layer1', 'layer2', 'layer3')]
    assert kinds == [FeatureMimicLoss, FeatureMimicLoss, CosineMimicLoss]


def test_a_loss_for_a_stage_that_is_not_there(tmp_path, teacher_path):
    losses = {'layer9': dict(type='mmsskd.CosineMimicLoss')}
    with pytest.raises(ConfigError, match=r"mimic_loss, a dict by stage: unknown field 'layer9'; did you mean 'layer"):
        train(run_cfg(tmp_path, teacher_path, **{'model.mimic_loss': losses}))
