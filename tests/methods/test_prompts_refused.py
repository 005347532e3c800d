"""Models that learned tokens or prefixes do not fit say so in one ModelError, whatever a library raises."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.models.test_causal import load, write

from tunesmith.errors import ModelError
from tunesmith.methods.base import registry

FAMILIES: dict[str, dict[str, Any]] = {
    "lfm2": {"layer_types": ["conv", "full_attention"], "num_key_value_heads": 2},
    "deepseek_v3": {"n_routed_experts": 4, "num_experts_per_tok": 2, "n_group": 1, "topk_group": 1, "kv_lora_rank": 8,
                    "q_lora_rank": 8, "qk_rope_head_dim": 4, "qk_nope_head_dim": 4, "v_head_dim": 8, "head_dim": 4,
                    "moe_intermediate_size": 16, "first_k_dense_replace": 1},
    "gemma4_text": {"num_key_value_heads": 2, "head_dim": 16, "vocab_size_per_layer_input": 1000,
                    "layer_types": ["sliding_attention", "full_attention"]},
}  # fmt: skip


@pytest.mark.parametrize("kind", FAMILIES)
def test_a_model_that_keeps_no_keys_of_one_size_has_no_prefix(kind: str, tmp_path: Path) -> None:
    pretrained = load(write(tmp_path / "m", kind, **FAMILIES[kind]))
    with pytest.raises(ModelError, match=r"cannot use prefix_tuning, which .* of one size.*Methods that work.*lora"):
        registry.make({"name": "prefix_tuning", "length": 3}).prepare(pretrained)


def test_a_model_that_looks_its_inputs_up_in_its_vocabulary_learns_no_tokens(tmp_path: Path) -> None:
    """Gemma 4: at their start learned tokens are words, so a first try would pass and the first step fail."""
    pretrained = load(write(tmp_path / "m", "gemma4_text", **FAMILIES["gemma4_text"]))
    with pytest.raises(ModelError, match=r"cannot use prompt_tuning: .*inputs_embeds.*lora"):
        registry.make({"name": "prompt_tuning", "length": 3}).prepare(pretrained)
