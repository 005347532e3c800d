"""prefix_tuning, prompt_tuning, p_tuning."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError

from tunesmith.errors import ModelError
from tunesmith.methods.base import registry
from tunesmith.methods.prefix_tuning import PrefixTuning
from tunesmith.methods.prompt_tuning import PromptTuning
from tunesmith.types import Pretrained

Load = Callable[..., Pretrained]


def test_a_prompt_can_start_from_words(tiny: Load) -> None:
    pretrained = tiny("electra")
    words = pretrained.model.get_input_embeddings().weight.detach().clone()
    model = PromptTuning(initialisation="text", text="good film", length=5).prepare(pretrained)
    ids = pretrained.processor("good film", add_special_tokens=False)["input_ids"]
    start = model.get_parameter("prompt_encoder.default.embedding.weight")
    assert torch.equal(start, words[torch.tensor([*ids, *ids, ids[0]])])


def test_a_prompt_can_start_from_the_vocabulary(tiny: Load) -> None:
    pretrained = tiny("bert")
    words = pretrained.model.get_input_embeddings().weight.detach()
    model = PromptTuning(initialisation="vocabulary", length=5).prepare(pretrained)
    start = model.get_parameter("prompt_encoder.default.embedding.weight")
    assert all((words == row).all(dim=1).any() for row in start)


def test_text_and_its_initialisation_go_together() -> None:
    for wrong in ({"initialisation": "text"}, {"text": "good film"}):
        with pytest.raises(ValidationError, match="go together"):
            PromptTuning(**wrong)


def test_a_size_that_nothing_reads_is_refused() -> None:
    with pytest.raises(ValidationError, match="only used with projection"):
        PrefixTuning(projection_size=64)


@pytest.mark.parametrize("kind", ["gpt2_lm", "llama_lm"])
def test_a_prefix_of_words_answers_at_first_as_the_model_does_behind_these_words(tiny: Load, kind: str) -> None:
    pretrained, ids = tiny(kind), torch.tensor([[9, 10, 11, 12]])
    tokenizer = pretrained.processor
    words = tokenizer("a good film was", add_special_tokens=False)["input_ids"]
    begin = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
    whole = torch.tensor([[*begin, *words][:4] + ids[0].tolist()])
    with torch.no_grad():
        expected = pretrained.model(input_ids=whole).logits[:, 4:]
        model = PrefixTuning(initialisation="words", text="a good film was", length=4).prepare(pretrained).eval()
        found = model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)  # float32, other shapes of products


def test_a_language_models_prefix_starts_from_drawn_words_that_follow_from_the_seed(tiny: Load) -> None:
    def start(**options: object) -> torch.Tensor:
        torch.manual_seed(3)
        model = registry.make({"name": "prefix_tuning", "length": 6, **options}).prepare(tiny("llama_lm"))
        return model.get_parameter("prompt_encoder.default.embedding.weight").detach()

    assert torch.equal(start(), start())
    assert torch.equal(start(), start(initialisation="words"))
    assert not torch.equal(start(), start(initialisation="random"))
    assert not start(initialisation="zero").any()


def test_words_are_refused_where_a_model_keeps_none_or_a_projection_makes_the_values(tiny: Load) -> None:
    with pytest.raises(ModelError, match=r"BertForSequenceClassification is none.*lora"):
        PrefixTuning(initialisation="words").prepare(tiny("bert"))
    with pytest.raises(ValidationError, match="choose one"):
        PrefixTuning(initialisation="words", projection=True)
    with pytest.raises(ValidationError, match="only used with initialisation: words"):
        PrefixTuning(text="good film")


@pytest.mark.parametrize("name", ["prefix_tuning", "prompt_tuning", "p_tuning"])
def test_a_prompt_that_fills_the_longest_input_is_refused(tiny: Load, name: str) -> None:
    method = registry.make({"name": name, "length": 64})
    assert method.added_tokens() == 64
    with pytest.raises(ModelError, match="reads 64 tokens at most"):
        method.prepare(tiny("bert"))


def test_a_prefix_that_the_model_ignores_is_refused(tiny: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    pretrained = tiny("bert")
    forward = pretrained.model.bert.forward

    def deaf(past_key_values: object = None, attention_mask: torch.Tensor | None = None, **rest: object) -> object:
        return forward(attention_mask=None, **rest)

    monkeypatch.setattr(pretrained.model.bert, "forward", deaf)
    with pytest.raises(ModelError, match="ignores what prefix_tuning puts before its text"):
        PrefixTuning(length=3).prepare(pretrained)


def test_trying_a_prompt_out_draws_no_random_numbers(tiny: Load) -> None:
    draws = []
    for _ in range(2):
        pretrained = tiny("bert")
        torch.manual_seed(5)
        PromptTuning(length=3).prepare(pretrained)
        draws.append(torch.rand(1))
    assert torch.equal(*draws)


def test_a_projection_is_worked_out_when_written(tiny: Load, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    pretrained = tiny("bert")
    method = PrefixTuning(projection=True, length=3)
    method.save(method.prepare(pretrained), tmp_path, pretrained)
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    assert config["prefix_projection"] is False
    assert config["inference_mode"] is True
    assert config["base_model_name_or_path"] == pretrained.source.path
    tensors = load_file(tmp_path / "adapter_model.safetensors")
    assert tensors["prompt_embeddings"].shape == (3, 2 * 2 * 32)
    assert {n for n in tensors if "pooler" in n or "classifier" in n} == set(tensors) - {"prompt_embeddings"}


def test_a_decoder_answers_a_padded_batch_from_each_texts_last_token(tiny: Load) -> None:
    model = PromptTuning(length=3).prepare(tiny("llama")).eval()
    ids = torch.tensor([[5, 6, 7, 0, 0], [8, 9, 10, 11, 12]])
    batch = model(input_ids=ids, attention_mask=(ids != 0).long()).logits
    alone = model(input_ids=ids[:1, :3], attention_mask=torch.ones(1, 3)).logits
    torch.testing.assert_close(batch[:1], alone, atol=1e-5, rtol=1e-4)
