"""Prompts behind a gate: which layers get them, which models are refused, and the line that the gate draws."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from tunesmith.errors import ModelError
from tunesmith.methods.llama_adapter import LlamaAdapter
from tunesmith.types import Pretrained

Load = Callable[..., Pretrained]


def test_the_upper_layers_get_prompts_and_a_gate_that_is_shut(tiny: Load) -> None:
    method = LlamaAdapter(layers=1, length=4)
    learned = method.learned(method.prepare(tiny("llama_lm")))
    shapes = {name.removeprefix("base_model.model.model."): list(t.shape) for name, t in learned.items()}
    assert shapes == {
        "layers.1.self_attn.adaption_prompt": [1, 4, 32],
        "layers.1.self_attn.adaption_gate": [1],
    }
    assert not any(bool(t.any()) for name, t in learned.items() if name.endswith("gate"))
    assert method.added_tokens() == 0


def test_more_layers_than_there_are_are_refused(tiny: Load) -> None:
    with pytest.raises(ModelError, match=r"method\.layers is 3, but this model has 2"):
        LlamaAdapter(layers=3).prepare(tiny("llama_lm"))


def test_heads_that_are_not_as_wide_together_as_the_model_are_refused(tiny: Load) -> None:
    from transformers import AutoModelForCausalLM

    from tunesmith.models.anatomy import find_anatomy

    pretrained = tiny("llama_lm")
    given: Any = pretrained.model.config
    config = type(given).from_dict(given.to_dict() | {"head_dim": 16})
    model = AutoModelForCausalLM.from_config(config).eval()
    wide = replace(pretrained, model=model, anatomy=replace(find_anatomy(model), head=(), classifier=()))
    with pytest.raises(ModelError, match=r"cannot use llama_adapter.*lora"):
        LlamaAdapter().prepare(wide)


def test_half_of_the_gate_adds_half_of_what_the_last_layers_attention_learned(tiny: Load) -> None:
    method, pretrained = LlamaAdapter(layers=1), tiny("llama_lm")
    ids = torch.tensor([[5, 6, 7, 8]])
    model: Any = method.prepare(pretrained).eval()
    attention = model.get_submodule("base_model.model.model.layers.1.self_attn")
    seen: list[Tensor] = []
    attention.register_forward_hook(lambda module, given, output: seen.append(output[0].detach()))
    start = {name: tensor.detach().clone() for name, tensor in method.learned(model).items()}
    tuned = {n: t + 0.3 if n.endswith("prompt") else torch.tensor([0.8]) for n, t in start.items()}
    for share in (0.0, 0.5, 1.0):
        with torch.no_grad():
            for name, value in method.between(start, tuned, share).items():
                if share:
                    model.get_parameter(name).copy_(value)
            model(input_ids=ids)
    torch.testing.assert_close(seen[1] - seen[0], (seen[2] - seen[0]) / 2, atol=1e-6, rtol=1e-5)  # float32 sums
    assert not torch.allclose(seen[2], seen[0], atol=1e-3)
