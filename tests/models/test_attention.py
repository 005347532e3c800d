"""The hand-written attention equals torch's, forward and backward, with masks, dropout and grouped heads."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tunesmith.models.attention import attention_forward, cannot_pack, use_attention
from tunesmith.train import randomness


class Caller(nn.Module):
    """What a model passes as itself."""

    is_causal = False


def made(heads: int, tokens: int, *, size: int = 8, seed: int = 0) -> Tensor:
    draw = torch.Generator().manual_seed(seed)
    return torch.randn(3, heads, tokens, size, generator=draw, dtype=torch.float64).requires_grad_()


def run(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, module: nn.Module | None = None) -> Tensor:
    return attention_forward(module or Caller(), query, key, value, mask)[0].transpose(1, 2)


def reference(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, *, causal: bool = False) -> Tensor:
    return nn.functional.scaled_dot_product_attention(query, key, value, mask, is_causal=causal, enable_gqa=True)


@pytest.mark.parametrize("kind", ["none", "padding", "additive", "causal", "grouped"])
def test_output_and_gradients_equal_torchs(kind: str) -> None:
    query, key, value = (
        made(4, 7),
        made(2 if kind == "grouped" else 4, 7, seed=1),
        made(2 if kind == "grouped" else 4, 7, seed=2),
    )
    mask: Tensor | None = None
    module = Caller()
    if kind == "padding":
        mask = (torch.arange(7) < torch.tensor([[7], [4], [1]]))[:, None, None, :].expand(3, 1, 7, 7)
    if kind == "additive":
        mask = torch.randn(3, 1, 7, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    if kind == "causal":
        module.is_causal = True
    outputs = [run(query, key, value, mask, module), reference(query, key, value, mask, causal=kind == "causal")]
    gradients = [torch.autograd.grad(out.square().sum(), (query, key, value)) for out in outputs]
    torch.testing.assert_close(outputs[0], outputs[1])
    torch.testing.assert_close(gradients[0], gradients[1])


def test_the_backward_with_dropout_is_the_derivative_of_the_forward() -> None:
    module = Caller()
    module.__dict__["dropout_number"] = 5

    def dropped(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        randomness.begin(1, 2, (0, 1, 2))
        return attention_forward(module, query, key, value, None, dropout=0.3)[0]

    assert torch.autograd.gradcheck(
        dropped, (made(2, 4, size=3), made(2, 4, size=3, seed=1), made(2, 4, size=3, seed=2))
    )


def test_a_row_without_any_key_stays_finite() -> None:
    mask = torch.zeros(3, 1, 5, 5, dtype=torch.bool)
    assert torch.isfinite(run(made(2, 5), made(2, 5), made(2, 5), mask)).all()


@pytest.mark.parametrize(
    ("family", "more"),
    [("gemma2", {"attn_logit_softcapping": 1.0}), ("gpt_oss", {"num_local_experts": 2, "num_experts_per_tok": 1})],
)
def test_a_model_that_does_more_than_a_softmax_keeps_its_own_attention(family: str, more: dict[str, Any]) -> None:
    from transformers import AutoConfig, AutoModelForCausalLM

    small = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4, "num_key_value_heads": 2,
             "head_dim": 8, "intermediate_size": 48, "vocab_size": 50}  # fmt: skip
    config = AutoConfig.for_model(family, **small, **more)
    torch.manual_seed(0)
    model: Any = AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()
    ids = torch.arange(3, 15)[None]
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(8 if parameter.ndim > 1 else 1)
        own = model(input_ids=ids).logits
        assert not use_attention(model)
        assert torch.equal(model(input_ids=ids).logits, own)


def test_a_prefix_in_float32_is_attended_to_under_bfloat16_arithmetic() -> None:
    """The learned keys and values come first and stay float32, so joined ones are float32 under autocast."""
    query, key, value = (torch.randn(2, 4, 6, 8, requires_grad=True) for _ in range(3))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out, _ = attention_forward(nn.Module(), query, key, value, None)
    out.float().square().sum().backward()
    exact = [each.detach().clone().requires_grad_() for each in (query, key, value)]
    torch.nn.functional.scaled_dot_product_attention(*exact).square().sum().backward()
    for found, wanted in zip((query, key, value), exact, strict=True):
        assert found.grad is not None
        assert wanted.grad is not None
        torch.testing.assert_close(found.grad, wanted.grad, atol=0.1, rtol=0.1)


@pytest.mark.parametrize(
    ("family", "more", "within"),
    [
        ("mistral", {"sliding_window": 8}, 8),
        ("gemma3_text", {"sliding_window": 8, "layer_types": ["sliding_attention", "full_attention"]}, 8),
        ("llama", {}, 10_000),
        (
            "qwen2_moe",
            {"sliding_window": 0, "num_experts": 4, "moe_intermediate_size": 16, "shared_expert_intermediate_size": 16},
            10_000,
        ),
        ("xlstm", {"num_heads": 4}, 0),
        ("lfm2", {"layer_types": ["conv", "full_attention"]}, 0),
        ("falcon_h1", {"mamba_d_ssm": 32, "mamba_n_heads": 4, "mamba_d_head": 8, "mamba_n_groups": 1}, 0),
    ],
)
def test_texts_share_a_row_only_where_none_sees_another(family: str, more: dict[str, Any], within: int) -> None:
    """within: the longest text for which this holds; 0: none."""
    from transformers import AutoConfig, AutoModelForCausalLM

    small = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
             "head_dim": 8, "intermediate_size": 48, "vocab_size": 50}  # fmt: skip
    model: Any = AutoModelForCausalLM.from_config(AutoConfig.for_model(family, **small, **more)).eval()
    assert use_attention(model)
    assert bool(cannot_pack(model, 9)) == (within < 9)
    assert bool(cannot_pack(model, 8)) == (within < 8)
