"""A layer and its low-rank addition in one step equal peft's, forward and backward."""

from __future__ import annotations

import copy
import gc
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn

from tunesmith.models import low_rank
from tunesmith.models.low_rank import _frozen_copy, _LowRank, fuse_low_rank
from tunesmith.train import randomness


class Net(nn.Module):
    """Two layers, one with a bias."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(24, 40), nn.Linear(40, 24, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(x).relu())


def wrapped(**options: Any) -> Any:
    torch.manual_seed(0)
    model = get_peft_model(Net(), LoraConfig(r=3, lora_alpha=6, target_modules=["first", "second"], **options))  # type: ignore[arg-type]
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(parameter, std=0.3)
    return model


def layers(model: Any) -> list[Any]:
    return [module for module in model.modules() if hasattr(module, "lora_A") and hasattr(module, "base_layer")]


def run(model: Any) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    x = torch.randn(2, 5, 24, generator=torch.Generator().manual_seed(1)).requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        out = model(x)
    out.float().square().sum().backward()
    assert x.grad is not None
    return out.detach(), x.grad, {n: p.grad for n, p in model.named_parameters() if p.grad is not None}


def near(found: Tensor, wanted: Tensor) -> bool:
    return bool((found.float() - wanted.float()).norm() < 2**-6 * wanted.float().norm())  # a few roundings to 8 bits


def test_the_backward_is_the_derivative_of_the_forward() -> None:
    draw = torch.Generator().manual_seed(0)
    x, w, bias, a, b = (
        torch.randn(*shape, generator=draw, dtype=torch.float64) for shape in ((2, 3, 4), (5, 4), (5,), (2, 4), (5, 2))
    )
    learns = [t.requires_grad_() for t in (x, a, b)]
    assert torch.autograd.gradcheck(lambda x, a, b: _LowRank.apply(x, w, bias, a, b), learns)
    assert torch.autograd.gradcheck(lambda x, a, b: _LowRank.apply(x, w, None, a, b), learns)


def test_it_equals_peft_within_rounding_and_moves_with_a_copy_of_the_model() -> None:
    plain = wrapped()
    model = wrapped()
    assert all(fuse_low_rank(layer, "default") for layer in layers(model))
    model = copy.deepcopy(model)
    wanted, d_wanted, known = run(plain)
    given, d_given, found = run(model)
    assert given.dtype == torch.bfloat16
    assert near(given, wanted)
    assert near(d_given, d_wanted)
    assert found.keys() == known.keys()
    assert all(near(found[name], known[name]) for name in known)


def test_without_autocast_it_is_peft_itself() -> None:
    model = wrapped()
    x = torch.randn(3, 24, generator=torch.Generator().manual_seed(1))
    wanted = model(x)
    for layer in layers(model):
        fuse_low_rank(layer, "default")
    assert torch.equal(model(x), wanted)


def test_an_adapter_that_is_switched_off_takes_no_part() -> None:
    model, x = wrapped(), torch.randn(3, 24, generator=torch.Generator().manual_seed(1))
    with torch.autocast("cpu", torch.bfloat16), model.disable_adapter():
        wanted = model(x)
    for layer in layers(model):
        fuse_low_rank(layer, "default")
    with torch.autocast("cpu", torch.bfloat16), model.disable_adapter():
        assert torch.equal(model(x), wanted)


def test_dropout_is_left_to_peft() -> None:
    model, plain = wrapped(lora_dropout=0.5).train(), wrapped(lora_dropout=0.5).train()
    assert all(fuse_low_rank(layer, "default") for layer in layers(model))
    torch.manual_seed(3)
    wanted = run(plain)[0]
    torch.manual_seed(3)
    assert torch.equal(run(model)[0], wanted)


@pytest.mark.parametrize("options", [{"use_dora": True}, {"lora_bias": True}])
def test_what_is_not_plain_is_left_alone(options: dict[str, Any]) -> None:
    model = wrapped(**options)
    assert not any(fuse_low_rank(layer, "default") for layer in layers(model))
    assert not any("forward" in vars(layer) for layer in layers(model))


def test_frozen_weights_are_copied_once_a_step_and_when_they_change() -> None:
    weight = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    randomness.begin(0, 1, (0,))
    first = _frozen_copy(weight)
    randomness.begin(0, 1, (1,))
    assert _frozen_copy(weight) is first
    weight.mul_(2)
    assert torch.equal(_frozen_copy(weight), weight.bfloat16())
    weight.data = weight.data + 1
    randomness.begin(0, 2, (0,))
    assert torch.equal(_frozen_copy(weight), weight.bfloat16())


def test_no_copy_outlives_its_weight() -> None:
    randomness.begin(0, 1, (0,))
    gc.collect()  # of other tests
    before = len(low_rank._copies)
    weight = torch.ones(2, 2)
    _frozen_copy(weight)
    assert len(low_rank._copies) == before + 1
    del weight
    gc.collect()
    assert len(low_rank._copies) == before


def test_small_additions_arrive_where_peft_loses_most_of_them() -> None:
    draw = torch.Generator().manual_seed(0)
    x, w, a, b = (
        (torch.randn(*shape, generator=draw) * scale).bfloat16()
        for shape, scale in (((256, 128), 1.0), ((128, 128), 0.09), ((4, 128), 0.09), ((128, 4), 3e-4))
    )
    base, addition = x @ w.t(), (x @ a.t()).float() @ b.float().t()

    def arrived(found: Tensor, without: Tensor) -> float:
        return float(((found.float() - without.float()) * addition).sum() / addition.square().sum())

    assert arrived(base + (x @ a.t()) @ b.t(), base) < 0.6
    # rounding is by chance as much up as down: about one part in twenty at this size
    assert 0.85 < arrived(_LowRank.apply(x, w, None, a, b), _LowRank.apply(x, w, None, a, b * 0)) < 1.15


def test_the_next_steps_copy_lies_where_the_last_one_lay_and_follows_the_weight() -> None:
    weight = torch.nn.Parameter(torch.randn(6, 4), requires_grad=False)
    randomness.begin(0, 1, (0,))
    first = _frozen_copy(weight)
    assert _frozen_copy(weight) is first
    weight.data.mul_(2)
    randomness.begin(0, 2, (0,))
    second = _frozen_copy(weight)
    assert second.data_ptr() == first.data_ptr()
    assert torch.equal(second, weight.to(torch.bfloat16))
