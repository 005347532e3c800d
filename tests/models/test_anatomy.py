"""Parts of nine families, found by what they do."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest
from tests.conftest import TINY_MODELS

from tunesmith.types import Pretrained

HEADS = {
    "bert": ("bert.pooler", "classifier"),
    "roberta": ("classifier",),
    "distilbert": ("pre_classifier", "classifier"),
    "electra": ("classifier",),
    "deberta-v2": ("pooler", "classifier"),
    "albert": ("albert.pooler", "classifier"),
    "modernbert": ("head", "classifier"),
    "gpt2": ("score",),
    "llama": ("score",),
}
ROLES = {
    "modernbert": {"query_key_value": 3, "attention_output": 3, "gate_up": 3, "down": 3},
    "gpt2": {"query_key_value": 2, "attention_output": 2, "up": 2, "down": 2},
    "llama": {"query": 2, "key": 2, "value": 2, "attention_output": 2, "gate": 2, "up": 2, "down": 2},
    "albert": {"query": 1, "key": 1, "value": 1, "attention_output": 1, "up": 1, "down": 1},
}
PLAIN = {"query": 2, "key": 2, "value": 2, "attention_output": 2, "up": 2, "down": 2}


@pytest.mark.parametrize("kind", TINY_MODELS)
def test_head_blocks_and_roles_are_found(kind: str, tiny: Callable[..., Pretrained]) -> None:
    anatomy = tiny(kind).anatomy
    assert anatomy.head == HEADS[kind]
    found = Counter(layer.role for layer in anatomy.of())
    assert dict(found) == ROLES.get(kind, PLAIN)
    assert len(anatomy.blocks) == {"modernbert": 3, "albert": 1}.get(kind, 2)
    assert anatomy.heads == 4
    assert anatomy.hidden_size == 32


def test_finding_parts_leaves_the_model_as_it_was(tiny: Callable[..., Pretrained]) -> None:
    import torch

    from tunesmith.models.anatomy import find_anatomy

    model = tiny("bert").model
    model.train()
    next(model.parameters()).requires_grad_(False)
    state = torch.get_rng_state()
    find_anatomy(model)
    assert model.training
    assert torch.equal(torch.get_rng_state(), state)
    assert not next(model.parameters()).requires_grad
    assert all(p.grad is None for p in model.parameters())


def test_a_gated_delta_layer_whose_keys_and_values_differ_in_heads_is_read() -> None:
    """Qwen3.5's default sizes in small: its input layers are as wide as one and as two of its output layer's inputs."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    from tunesmith.models.anatomy import find_anatomy
    from tunesmith.models.attention import use_attention

    config = AutoConfig.for_model(
        "qwen3_5_text", vocab_size=50, hidden_size=32, num_hidden_layers=4, num_attention_heads=4,
        num_key_value_heads=2, head_dim=8, intermediate_size=48, linear_num_value_heads=4, linear_num_key_heads=2,
        linear_key_head_dim=8, linear_value_head_dim=8, pad_token_id=0,
    )  # fmt: skip
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config).eval()
    use_attention(model)
    found = {layer.name.removeprefix("model.layers."): layer.role for layer in find_anatomy(model).of()}
    assert [found[f"3.mlp.{name}_proj"] for name in ("gate", "up", "down")] == ["gate", "up", "down"]
    assert found["3.self_attn.q_proj"] == "query"
