"""Modes of modules, and random states: set, or kept while one looks at a model or tries it."""

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import nn


@contextmanager
def in_eval_mode(*models: nn.Module) -> Iterator[None]:
    """Within this context every module of ``models`` is in eval mode; then each is in the mode in which it was found.

    Flags are set one by one: a model's own ``train()`` may do more. Those of :func:`makes_its_eval_mode` stay.

    Example:
        >>> layer = nn.Dropout()
        >>> with in_eval_mode(layer):
        ...     layer.training
        False
        >>> layer.training
        True
    """
    modules = [module for model in models for module in model.modules()]
    modes = {module: module.training for module in modules if not makes_its_eval_mode(module)}
    for module in modes:
        module.training = False
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode


def makes_its_eval_mode(module: nn.Module) -> bool:
    """Whether a module's ``train()`` makes of its own parameters what its eval mode computes with.

    The attentions of LeViT, EfficientFormer and TinyViT do: they lay out their biases there. The flag alone would send them to
    what is not there; and in train mode they compute the same, of the parameters themselves.
    """
    return bool(module._parameters) and type(module).train is not nn.Module.train


def random_states() -> dict:
    """Random states of Python, numpy, torch, and the current GPU, from all of which transforms and models draw.

    Torch's are arrays: a tensor in a checkpoint is loaded to the device, and no generator takes its state from there.
    """
    states = dict(python=random.getstate(), numpy=np.random.get_state())  # noqa: NPY002  what transforms draw from
    states['torch'] = torch.get_rng_state().numpy()
    if torch.cuda.is_available():
        states['cuda'] = torch.cuda.get_rng_state().numpy()
    return states


def set_random_states(states: dict) -> None:
    """Set what :func:`random_states` returned."""
    random.setstate(states['python'])
    np.random.set_state(states['numpy'])  # noqa: NPY002
    torch.set_rng_state(torch.from_numpy(states['torch']))
    if 'cuda' in states and torch.cuda.is_available():
        torch.cuda.set_rng_state(torch.from_numpy(states['cuda']))


def seed_random_states(*words: int) -> None:
    """Set the random states of Python, numpy and torch from whole numbers of at least 0, all of which count.

    Example:
        >>> seed_random_states(0, 1)
        >>> first = random.random()
        >>> seed_random_states(0, 1)
        >>> random.random() == first
        True
    """
    seeds = np.random.SeedSequence(words).generate_state(3)
    random.seed(int(seeds[0]))
    np.random.seed(int(seeds[1]))  # noqa: NPY002  the legacy state is what transforms draw from
    if torch.accelerator.is_available():
        torch.manual_seed(int(seeds[2]))
    else:  # which would note, with a traceback, what a GPU has to do once there is one
        torch.default_generator.manual_seed(int(seeds[2]))


@contextmanager
def random_states_kept() -> Iterator[None]:
    """Within this context anything may draw; then the random states are as before."""
    states = random_states()
    try:
        yield
    finally:
        set_random_states(states)
