"""Modes and random states are as they were found."""

import random

import numpy as np
import pytest
import torch
from torch import nn

from mmsskd.utils.states import (
    in_eval_mode,
    makes_its_eval_mode,
    random_states,
    random_states_kept,
    seed_random_states,
    set_random_states,
)


class LaysOut(nn.Module):
    """As an attention of LeViT: its eval mode computes with what ``train(False)`` has laid out."""

    def __init__(self):
        super().__init__()
        self.bias = nn.Parameter(torch.ones(1))

    def train(self, mode=True):
        super().train(mode)
        self.laid_out = None if mode else self.bias * 2
        return self


def draws() -> tuple:
    return random.random(), np.random.rand(), torch.rand(1).item()  # noqa: NPY002


def test_each_module_is_in_its_own_mode_again():
    model = nn.Sequential(nn.Dropout(), nn.Sequential(nn.BatchNorm1d(2), LaysOut()))
    model[0].eval()
    modes = [module.training for module in model.modules()]
    with pytest.raises(ZeroDivisionError), in_eval_mode(model, nn.Dropout()):
        assert not model.training and not model[1][0].training
        assert model[1][1].training, 'the flag alone would send it to what is not there'
        raise ZeroDivisionError
    assert [module.training for module in model.modules()] == modes
    assert makes_its_eval_mode(LaysOut()) and not makes_its_eval_mode(nn.Linear(1, 1))


def test_random_states_are_set_and_kept():
    seed_random_states(3, 1, 4)
    first = draws()
    with pytest.raises(ZeroDivisionError), random_states_kept():
        draws()
        raise ZeroDivisionError
    states = random_states()
    second = draws()
    set_random_states(states)
    assert draws() == second != first
    seed_random_states(3, 1, 4)
    assert draws() == first
    seed_random_states(3, 4, 1)
    assert draws() != first, 'all words count, each in its place'
