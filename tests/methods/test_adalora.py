from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from tunesmith.methods.adalora import AdaLoRA
from tunesmith.types import Pretrained

Load = Callable[..., Pretrained]
METHOD = AdaLoRA(rank=2, start_rank=6, warmup=0.0, settle=0.3, targets="attention")
IDS = torch.arange(3, 27).view(4, 6)


def diagonals(model: nn.Module) -> Iterator[torch.Tensor]:
    return (p for n, p in model.named_parameters() if ".lora_E." in n)


def train(method: AdaLoRA, model: nn.Module, optimizer: Any, first: int, last: int, steps: int) -> None:
    for step in range(first, last + 1):
        nn.functional.cross_entropy(model(input_ids=IDS).logits, torch.tensor([0, 1, 2, 1])).backward()
        method.after_backward(model, step, steps)
        optimizer.step()
        method.after_step(model, step, steps)
        optimizer.zero_grad()


def start(method: AdaLoRA, pretrained: Pretrained) -> tuple[nn.Module, Any]:
    torch.manual_seed(0)
    model = method.prepare(pretrained).eval()
    return model, torch.optim.AdamW(method.learned(model).values(), lr=3e-3)


def test_the_budget_falls_to_the_average_rank(tiny: Load) -> None:
    model, optimizer = start(METHOD, tiny("bert"))
    train(METHOD, model, optimizer, 1, 20, 20)
    left = [int((e != 0).sum()) for e in diagonals(model)]
    assert sum(left) == 2 * len(left)


@pytest.mark.parametrize("steps", [1, 2, 3, 4, 5])
def test_a_short_run_ends_well(tiny: Load, steps: int) -> None:
    model, optimizer = start(METHOD, tiny("bert"))
    train(METHOD, model, optimizer, 1, steps, steps)
    assert all(torch.isfinite(e).all() for e in diagonals(model))


@pytest.mark.parametrize("stop", [1, 6, 7, 8, 9])
def test_a_run_stopped_anywhere_goes_on_exactly(tiny: Load, stop: int) -> None:
    whole, optimizer = start(METHOD, tiny("bert"))
    train(METHOD, whole, optimizer, 1, stop, 10)
    learned = {n: t.detach().clone() for n, t in METHOD.learned(whole).items()}
    state = {n: t.clone() for n, t in METHOD.state(whole).items()}
    again, second = start(METHOD, tiny("bert"))
    with torch.no_grad():
        for name, tensor in METHOD.learned(again).items():
            tensor.copy_(learned[name])
    METHOD.restore(again, state)
    second.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    train(METHOD, whole, optimizer, stop + 1, 10, 10)
    train(METHOD, again, second, stop + 1, 10, 10)
    expected = METHOD.learned(whole)
    assert all(torch.equal(t, expected[n]) for n, t in METHOD.learned(again).items())


def test_the_penalty_is_added_once_and_is_the_papers(tiny: Load) -> None:
    model, _ = start(METHOD, tiny("bert"))
    METHOD.after_backward(model, 1, 10)
    factors = {n: p for n, p in model.named_parameters() if ".lora_A." in n or ".lora_B." in n}

    def penalty() -> float:
        squares = [p @ p.T if ".lora_A." in n else p.T @ p for n, p in factors.items()]
        return 0.1 * sum(float((s - torch.eye(6)).pow(2).sum().sqrt()) for s in squares) / len(factors)

    name, factor = next(iter(factors.items()))
    with torch.no_grad():
        factor[0, 0] += 1e-2
        above = penalty()
        factor[0, 0] -= 2e-2
        below = penalty()
    # central difference in float32: about three digits
    assert float(factor.grad[0, 0]) == pytest.approx((above - below) / 2e-2, rel=2e-2, abs=1e-5), name


def test_saving_between_two_cuts_loses_no_direction(tiny: Load, tmp_path: Any) -> None:
    from peft import PeftModel
    from transformers import AutoModelForSequenceClassification

    method = METHOD.model_copy(update={"interval": 5})
    pretrained = tiny("bert")
    model, optimizer = start(method, pretrained)
    train(method, model, optimizer, 1, 7, 20)
    pattern = model.peft_config["default"].rank_pattern
    assert any(e[~torch.tensor(pattern[n])].any() for n, e in model.base_model.model.named_parameters() if n in pattern)
    method.save(model, tmp_path, pretrained)
    assert model.peft_config["default"].rank_pattern == pattern
    base = AutoModelForSequenceClassification.from_pretrained(pretrained.source.path, num_labels=3)
    loaded = PeftModel.from_pretrained(base, tmp_path).eval()
    torch.testing.assert_close(loaded(input_ids=IDS).logits, model(input_ids=IDS).logits, atol=1e-5, rtol=1e-4)


def test_ranks_that_do_not_fall_are_refused() -> None:
    with pytest.raises(ValidationError, match="nothing to cut"):
        AdaLoRA(rank=8, start_rank=8)
    with pytest.raises(ValidationError, match="sum below 1"):
        AdaLoRA(warmup=0.5, settle=0.5)
