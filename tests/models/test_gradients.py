from __future__ import annotations

import torch
from torch import Tensor, nn

from tunesmith.models.gradients import sound_gradients


def gradients(norm: nn.Module, pixels: Tensor, arriving: Tensor) -> tuple[Tensor, ...]:
    with sound_gradients(norm):
        output = norm(pixels)
    return torch.autograd.grad(output, [*norm.parameters(), pixels], arriving)


def test_a_single_pictures_gradient_through_a_norm_does_not_hang_on_its_order_in_memory() -> None:
    draws = torch.Generator().manual_seed(0)
    norm = nn.BatchNorm2d(8).eval()
    pixels = torch.randn(1, 8, 3, 3, generator=draws).requires_grad_()
    arriving = torch.randn(1, 9, 8, generator=draws).transpose(1, 2).unflatten(2, (3, 3))
    found = gradients(norm, pixels, arriving)
    wanted = gradients(norm, pixels, arriving.contiguous())
    for ours, right in zip(found, wanted, strict=True):
        torch.testing.assert_close(ours, right)
    torch.testing.assert_close(found[1], arriving.sum((0, 2, 3)))
    assert not norm._forward_hooks
