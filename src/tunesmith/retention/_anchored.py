"""Weights on springs: half a weighted squared distance from where they were, differentiated in closed form."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from tunesmith.retention.base import Held


def weights(held: Held) -> dict[str, Tensor]:
    """The learned weights by name: floating-point parameters. Statistics and counters of norms are no weights."""
    return {n: t for n, t in held.learned.items() if isinstance(t, nn.Parameter) and t.is_floating_point()}


def anchored(now: Tensor, start: Tensor, weight: float, stiffness: Tensor | None = None) -> Tensor:
    """Half of weight x stiffness x (now - start)^2, summed; its gradient is weight x stiffness x (now - start).

    stiffness: not negative, of the same shape; None: 1 everywhere. Three passes over memory instead of autograd's six.
    """
    value: Tensor = _Anchored.apply(now, start, weight, stiffness)
    return value


class _Anchored(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, now: Tensor, start: Tensor, weight: float, stiffness: Tensor | None) -> Tensor:
        away = now - start
        pull = away if stiffness is None else away * stiffness
        ctx.save_for_backward(pull)
        ctx.weight = weight
        return weight / 2 * (pull * away).sum()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        (pull,) = ctx.saved_tensors
        return pull * (ctx.weight * gradients[0]), None, None, None
