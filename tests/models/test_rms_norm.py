"""Norms in few passes: the same answers and gradients to rounding, and nothing else of the model touched."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from transformers.models.gemma.modeling_gemma import GemmaRMSNorm
from transformers.models.llama.modeling_llama import LlamaRMSNorm
from transformers.models.mistral.modeling_mistral import MistralRMSNorm
from transformers.models.olmo2.modeling_olmo2 import Olmo2RMSNorm
from transformers.models.qwen2.modeling_qwen2 import Qwen2RMSNorm
from transformers.models.qwen3.modeling_qwen3 import Qwen3RMSNorm

from tunesmith.models.rms_norm import _RMSNorm, shorten_norms
from tunesmith.types import Pretrained


def drawn(norm: nn.Module) -> nn.Module:
    torch.manual_seed(3)
    with torch.no_grad():
        norm.weight.normal_(1.0, 0.3)  # type: ignore[operator]
    return norm


def answers(norm: nn.Module, x: Tensor, above: Tensor) -> list[Tensor]:
    given = x.clone().requires_grad_()
    norm.zero_grad()
    out = norm(given)
    out.backward(above)
    assert given.grad is not None
    return [out.detach(), given.grad, *(p.grad.clone() for p in norm.parameters() if p.grad is not None)]


@pytest.mark.parametrize("kind", [LlamaRMSNorm, MistralRMSNorm, Qwen2RMSNorm, Qwen3RMSNorm])
@pytest.mark.parametrize("learns", [True, False])
def test_answers_and_gradients_are_transformers_own_to_rounding(kind: type[nn.Module], learns: bool) -> None:
    whole = drawn(kind(24)).requires_grad_(learns)
    short = copy.deepcopy(whole)
    assert shorten_norms(short) == 1
    x, above = torch.randn(3, 5, 24) * 7, torch.randn(3, 5, 24)
    x[1] *= 1e-4  # where eps counts
    first, second = answers(whole, x, above), answers(short, x, above)
    assert len(first) == len(second) == 2 + learns
    for one, other in zip(first, second, strict=True):
        torch.testing.assert_close(other, one, rtol=2e-5, atol=1e-6 * float(one.abs().max()))


def test_the_gradient_is_that_of_the_formula() -> None:
    x = torch.randn(2, 3, 6, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(6, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda *given: _RMSNorm.apply(*given, 1e-5), (x, weight))


@pytest.mark.parametrize("kind", [GemmaRMSNorm, Olmo2RMSNorm, nn.RMSNorm])
def test_norms_that_are_written_otherwise_are_left_alone(kind: type[nn.Module]) -> None:
    assert shorten_norms(kind(8)) == 0


def test_without_gradients_answers_are_transformers_own_bit_for_bit() -> None:
    norm = drawn(LlamaRMSNorm(24))
    x = torch.randn(3, 5, 24)
    with torch.no_grad():
        before = norm(x)
        shorten_norms(norm)
        assert torch.equal(norm(x), before)
    norm.requires_grad_(False)
    assert torch.equal(norm(x), before)


def test_a_model_keeps_its_names_and_a_copy_runs_on_its_own_weights(tiny: Callable[..., Pretrained]) -> None:
    model = tiny("llama_lm").model
    names = list(model.state_dict())
    assert shorten_norms(model) == 5  # two a block, and the last
    assert shorten_norms(model) == 0
    assert list(model.state_dict()) == names
    copied = copy.deepcopy(model)
    norm = copied.get_submodule("model.norm")
    with torch.no_grad():
        norm.weight.zero_()  # type: ignore[union-attr, operator]
    ids = torch.tensor([[5, 6, 7]])
    assert model(input_ids=ids).logits.abs().max() > 0
    assert norm(torch.randn(1, 2, 32, requires_grad=True)).abs().max() == 0
