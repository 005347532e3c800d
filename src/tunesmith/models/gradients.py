"""Right gradients through BatchNorm of a single picture on a CPU.

torch 2.14 gives wrong ones there (weight, bias and input off by their own size) where the gradient
arrives with its channels last in memory, as it does from a `flatten(2).transpose(1, 2)` behind the norm: every
transformer detector has one. With two pictures or more, or a gradient that was copied into order first, they are right.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor, nn


@contextmanager
def sound_gradients(model: nn.Module) -> Iterator[None]:
    """For forward passes inside the block, gradients of a single picture reach each BatchNorm in memory order."""
    handles = [module.register_forward_hook(_order) for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _order(_module: nn.Module, _given: tuple[Tensor, ...], output: Tensor) -> None:
    if output.requires_grad and len(output) == 1 and output.device.type == "cpu":
        output.register_hook(_ordered)


def _ordered(gradient: Tensor) -> Tensor:
    return gradient.contiguous()
