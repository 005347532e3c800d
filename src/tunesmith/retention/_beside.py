"""A pass beside the loop's own, on other examples: modes and draws are its own, and nothing of it stays behind."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import nn

from tunesmith.train import randomness


@contextmanager
def beside(model: nn.Module, seed: int, step: int, positions: Sequence[int], *, still: bool) -> Iterator[None]:
    """For a forward pass over examples at `positions`, and its backward pass: blocks that forget their activations
    compute them again there, so both must lie inside. Norms take their running statistics and leave them alone.

    still: evaluation mode, so that nothing is drawn; else the modes that stand, in training with dropout. Behind it
    modes, counter and torch's generator on the CPU are as they were (others are seeded by the next `begin`).
    """
    modes = [(module, module.training) for module in model.modules()]
    clock = randomness.now()
    try:
        with torch.random.fork_rng(devices=[]):
            for module in model.modules():
                module.training = module.training and not (_may_draw(module) if still else _has_statistics(module))
            randomness.begin(seed, step, positions)
            yield
    finally:
        randomness.set_back(clock)
        for module, training in modes:
            module.training = training


def _has_statistics(module: nn.Module) -> bool:
    return getattr(module, "running_mean", None) is not None


def _may_draw(module: nn.Module) -> bool:
    """All but recurrent layers without dropout: cuDNN has their gradients in training mode only."""
    return not isinstance(module, nn.RNNBase) or module.dropout > 0
