from __future__ import annotations

import pytest
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


@pytest.mark.parametrize("height", [1, 3])
def test_a_convolution_over_a_map_of_width_one_gets_a_right_gradient_in_bfloat16(height: int) -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(16, 16, 3, stride=2, padding=1)
    given, target = torch.randn(3, 16, height, 1), torch.randn(3, 16, (height + 1) // 2, 1)
    plain = conv(given)
    wanted = torch.autograd.grad(plain, conv.weight, target)[0]
    for _ in range(20):
        spoiled = torch.full((16 * 16 * 9,), float("nan"), dtype=torch.bfloat16)  # what freed memory may hold
        del spoiled
        with torch.autocast("cpu", torch.bfloat16), sound_gradients(conv):
            answer = conv(given)
        found = torch.autograd.grad(answer, conv.weight, target.to(answer.dtype))[0]
        torch.testing.assert_close(answer.float(), plain, atol=0.05, rtol=0.05)  # eight bits of bfloat16
        torch.testing.assert_close(found, wanted, atol=0.05, rtol=0.05)
    assert conv.stride == (2, 2)


def test_a_convolution_that_fails_keeps_its_step() -> None:
    conv = nn.Conv2d(4, 4, 3, stride=2, padding=1)
    with pytest.raises(RuntimeError), sound_gradients(conv):
        conv(torch.zeros(1, 5, 4, 1))
    assert conv.stride == (2, 2)
