"""LoRA goes as far as peft goes on families where it refuses layers, or turns them into others."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig
from tests.models.test_causal import load, write

from tunesmith.errors import ModelError
from tunesmith.methods._peft_layers import taken
from tunesmith.methods.lora import LoRA
from tunesmith.models.causal import read_causal

FAMILIES: dict[str, dict[str, Any]] = {
    "glm4_moe": {"n_routed_experts": 4, "num_experts_per_tok": 2, "n_group": 1, "topk_group": 1,
                 "moe_intermediate_size": 16, "first_k_dense_replace": 1, "num_key_value_heads": 2, "head_dim": 8},
    "falcon_h1": {"mamba_d_ssm": 32, "mamba_n_heads": 4, "mamba_d_head": 8, "mamba_n_groups": 1,
                  "num_key_value_heads": 2, "head_dim": 8},
}  # fmt: skip
LEFT_OUT = {"glm4_moe": {"down_proj", "gate_proj", "up_proj"}, "falcon_h1": {"out_proj"}}


@pytest.mark.parametrize("kind", FAMILIES)
def test_what_peft_takes_learns_and_is_read_back_and_the_rest_is_named(
    kind: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pretrained = load(write(tmp_path / "model", kind, **FAMILIES[kind]))
    with caplog.at_level(logging.WARNING):
        model: Any = LoRA().prepare(pretrained).eval()
    (note,) = [each.getMessage() for each in caplog.records if each.name.startswith("tunesmith")]
    assert ", ".join(sorted(LEFT_OUT[kind])) in note
    assert "method.targets" in note
    taken = {name.rpartition(".")[2] for name in model.peft_config["default"].target_modules}
    assert {layer.name.rpartition(".")[2] for layer in pretrained.anatomy.of()} - taken == LEFT_OUT[kind]
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if ".lora_B." in name:
                parameter.normal_(0, 0.1)
    LoRA().save(model, tmp_path / "best", pretrained)
    pretrained.processor.save_pretrained(tmp_path / "best")
    read, _ = read_causal(tmp_path / "best")
    ids = torch.tensor([[5, 6, 7, 8]])
    with torch.no_grad():
        torch.testing.assert_close(read(input_ids=ids).logits, model(input_ids=ids).logits)


def test_targets_that_peft_takes_none_of_name_those_it_takes(tmp_path: Path) -> None:
    folder = write(tmp_path / "model", "glm4_moe", **FAMILIES["glm4_moe"])
    with pytest.raises(ModelError, match=r"down_proj, gate_proj, up_proj.*method\.targets=attention"):
        LoRA(targets="mlp").prepare(load(folder))
    LoRA(targets="attention").prepare(load(folder))


def test_an_older_peft_that_fuses_nothing_takes_every_layer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pretrained = load(write(tmp_path / "model", "glm4_moe", **FAMILIES["glm4_moe"]))
    config = LoraConfig()
    monkeypatch.setitem(sys.modules, "peft.utils.transformers_weight_conversion", None)
    layers = tuple(layer for layer in pretrained.anatomy.of() if "_proj" in layer.name)
    assert taken(pretrained.model, config, layers) == layers
