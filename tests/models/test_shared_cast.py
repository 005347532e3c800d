"""Layers that read the same states share one bfloat16 copy, and answer as they would without."""

from __future__ import annotations

import copy
import gc
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import checkpoint

from tunesmith.models import shared_cast
from tunesmith.models.shared_cast import bfloat16, share_casts


class Block(nn.Module):
    """Three layers on the same states, as query, key and value, and one on what they make of it."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.third, self.last = (nn.Linear(16, 16) for _ in range(4))

    def forward(self, states: Tensor) -> Tensor:
        return self.last(self.first(states).float() * self.second(states).sigmoid() + self.third(states))


@pytest.fixture
def model() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.LayerNorm(16), Block(), nn.LayerNorm(16), Block())


def autocast() -> torch.autocast:
    return torch.autocast("cpu", torch.bfloat16)


def answer_and_gradients(model: nn.Module, states: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    with autocast():
        answer: Tensor = model(states)
    answer.float().square().sum().backward()
    return answer.detach(), {n: p.grad for n, p in model.named_parameters() if p.grad is not None}


def states() -> Tensor:
    return torch.randn(5, 7, 16, generator=torch.Generator().manual_seed(1))


def test_answers_are_the_same_bits_and_gradients_are_within_rounding(model: nn.Sequential) -> None:
    plain = copy.deepcopy(model)
    assert share_casts(model, ["1", "3"]) == 8
    (given, found), (wanted, known) = answer_and_gradients(model, states()), answer_and_gradients(plain, states())
    assert torch.equal(given, wanted)
    for name, gradient in known.items():
        apart = (found[name] - gradient).norm() / gradient.norm()
        assert apart < 2**-6, name  # a few roundings to 8 bits


class Copies(TorchDispatchMode):
    """Counts copies to another type."""

    count = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += function is torch.ops.aten._to_copy.default
        return function(*args, **(kwargs or {}))


def copies(model: nn.Sequential) -> int:
    with Copies() as seen, autocast():
        model(states())
    return seen.count


def test_one_copy_is_made_for_three_layers(model: nn.Sequential) -> None:
    alone = copies(model)
    share_casts(model, ["1", "3"])
    assert alone - copies(model) == 2  # in the first block; the second is given bfloat16


def test_nothing_changes_without_autocast_and_in_inference_mode(model: nn.Sequential) -> None:
    wanted = model(states())
    share_casts(model, ["1", "3"])
    assert torch.equal(model(states()), wanted)
    with torch.inference_mode(), autocast():
        assert model(states()).dtype == torch.bfloat16


def test_values_that_were_changed_in_place_are_copied_again() -> None:
    values = torch.ones(3)
    first = bfloat16(values)
    assert bfloat16(values) is first
    values.add_(1)
    assert bfloat16(values).tolist() == [2, 2, 2]


def test_no_copy_outlives_its_tensor() -> None:
    values = torch.ones(3)
    bfloat16(values)
    del values
    gc.collect()
    assert not shared_cast._last


def test_a_block_computed_again_in_backward_makes_its_own_copies(model: nn.Sequential) -> None:
    share_casts(model, ["1", "3"])
    _, wanted = answer_and_gradients(model, states())
    wanted = {name: gradient.clone() for name, gradient in wanted.items()}
    model.zero_grad()

    def again(given: Tensor) -> Tensor:
        for layer in model:
            given = checkpoint(layer, given, use_reentrant=False)
        return given

    with autocast():
        again(states()).float().square().sum().backward()
    assert all(torch.equal(p.grad, wanted[n]) for n, p in model.named_parameters() if p.grad is not None)


def test_asking_twice_puts_in_one_hook(model: nn.Sequential) -> None:
    share_casts(model, ["1"])
    share_casts(model, ["1", "1.first"])
    assert len(model[1].first._forward_pre_hooks) == 1
