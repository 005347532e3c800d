"""Behind learned tokens or a prefix rows answer side by side as alone, also where layers see only what is near."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from tests.evaluate.test_generation import PROMPTS, other_model, tuned, uncached

from tunesmith.evaluate import generation
from tunesmith.evaluate.decoding import must_be_even
from tunesmith.evaluate.generation import answer
from tunesmith.methods.base import registry
from tunesmith.models.anatomy import find_anatomy
from tunesmith.types import Pretrained

LONG = [5 + i % 30 for i in range(14)]
METHODS = ("prompt_tuning", "p_tuning", "prefix_tuning")
NEAR: dict[str, dict[str, Any]] = {
    "mistral": {"sliding_window": 6},
    "lfm2": {"layer_types": ["conv", "full_attention"]},
    "qwen2": {},
}


def prompted(pretrained: Pretrained, family: str, method: str) -> Any:
    model = other_model(family, **NEAR[family])
    own = Pretrained(model, pretrained.processor, find_anatomy(model), pretrained.source)
    made = tuned(own, method)
    with torch.no_grad():
        for parameter in made.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.5)
    return made


@pytest.mark.parametrize(
    ("family", "method"),
    [(f, m) for f in NEAR for m in METHODS if (f, m) != ("lfm2", "prefix_tuning")],  # convolutions keep no keys
)
def test_padding_takes_no_place_that_a_layer_sees(tiny: Callable[..., Pretrained], family: str, method: str) -> None:
    pretrained = tiny("llama_lm")
    model = prompted(pretrained, family, method)
    prompts = [*PROMPTS, LONG]
    found = answer(model, pretrained.processor, prompts, most_tokens=8, stop=())
    assert [list(each.tokens) for each in found] == [uncached(model, prompt, 8) for prompt in prompts]


def test_only_a_prefix_before_a_window_asks_for_rows_of_one_length(
    tiny: Callable[..., Pretrained], monkeypatch: pytest.MonkeyPatch
) -> None:
    pretrained = tiny("llama_lm")
    model = prompted(pretrained, "mistral", "prefix_tuning")
    assert not must_be_even(model, 2)  # with the four of the prefix the window of six holds them
    assert must_be_even(model, 3)
    assert not must_be_even(prompted(pretrained, "mistral", "prompt_tuning"), 100)
    assert not must_be_even(prompted(pretrained, "qwen2", "prefix_tuning"), 100)
    with registry.make("prefix_tuning").passed_by(model):
        assert not must_be_even(model, 100)
    lengths: list[set[int]] = []
    plain = generation.decode

    def seen(model: Any, prompts: Any, **named: Any) -> Any:
        lengths.append({len(prompt) for prompt in prompts})
        return plain(model, prompts, **named)

    monkeypatch.setattr(generation, "decode", seen)
    answer(model, pretrained.processor, [*PROMPTS, [4, 9, 8]], most_tokens=4, stop=())
    assert sorted(map(sorted, lengths)) == [[1], [3], [4], [7]]
