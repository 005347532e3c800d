"""Generated answers are the model's own: with a cache or without, alone or side by side, plain or with a method."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch

from tunesmith.errors import ModelError
from tunesmith.evaluate.generation import Sampling, answer, generate, stream
from tunesmith.methods.base import registry
from tunesmith.types import Pretrained

Tiny = Callable[..., Pretrained]
PROMPTS = [[5, 9, 7], [11, 6, 12, 8, 14, 5, 9], [13], [7, 7, 9, 10]]
MODELS = ("gpt2_lm", "llama_lm")
METHODS = ("full", "bitfit", "lora", "ia3", "adapter", "vera", "oft", "prefix_tuning", "prompt_tuning", "p_tuning",
           "llama_adapter")  # fmt: skip
OPTIONS = {"prefix_tuning": {"length": 4}, "prompt_tuning": {"length": 4}, "p_tuning": {"length": 4}}


def uncached(model: Any, prompt: Sequence[int], most: int, stop: Sequence[int] = ()) -> list[int]:
    """The likeliest tokens by a whole forward pass for each, without any padding or cache."""
    ids = list(prompt)
    for _ in range(most):
        given = torch.tensor([ids])
        with torch.no_grad():
            token = int(model(input_ids=given, attention_mask=torch.ones_like(given)).logits[0, -1].argmax())
        if token in stop:
            break
        ids.append(token)
    return ids[len(prompt) :]


def tuned(pretrained: Pretrained, method: str) -> Any:
    """A method's model with its learned values moved off their start, in evaluation mode."""
    torch.manual_seed(3)
    model = registry.make({"name": method, **OPTIONS.get(method, {})}).prepare(pretrained)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * (0.5 if method == "vera" else 0.05))
    return model.eval()


@pytest.mark.parametrize("kind", MODELS)
def test_answers_side_by_side_are_those_of_whole_passes_alone(tiny: Tiny, kind: str) -> None:
    pretrained = tiny(kind)
    found = answer(pretrained.model, pretrained.processor, PROMPTS, most_tokens=12, stop=())
    for prompt, each in zip(PROMPTS, found, strict=True):
        assert list(each.tokens) == uncached(pretrained.model, prompt, 12)
        assert not each.ended


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("method", METHODS)
def test_a_method_answers_with_a_cache_as_without(tiny: Tiny, kind: str, method: str) -> None:
    pretrained = tiny(kind)
    try:
        model = tuned(pretrained, method)
    except ModelError as fault:
        pytest.skip(str(fault))
    found = answer(model, pretrained.processor, PROMPTS, most_tokens=10, stop=())
    assert [list(each.tokens) for each in found] == [uncached(model, prompt, 10) for prompt in PROMPTS]
    plain = answer(tiny(kind).model, pretrained.processor, PROMPTS, most_tokens=10, stop=())
    assert found != plain, "the method was passed by"


def test_a_method_that_is_passed_by_answers_as_the_untouched_model(tiny: Tiny) -> None:
    pretrained = tiny("llama_lm")
    plain = answer(tiny("llama_lm").model, pretrained.processor, PROMPTS, most_tokens=8, stop=())
    for name in ("prefix_tuning", "prompt_tuning", "lora"):
        pretrained = tiny("llama_lm")
        model = tuned(pretrained, name)
        with registry.make({"name": name, **OPTIONS.get(name, {})}).passed_by(model):
            assert answer(model, pretrained.processor, PROMPTS, most_tokens=8, stop=()) == plain, name


def test_an_answer_stops_at_any_of_the_stop_ids_and_leaves_it_out(tiny: Tiny) -> None:
    pretrained = tiny("llama_lm")
    free = answer(pretrained.model, pretrained.processor, PROMPTS, most_tokens=12, stop=())
    stop = [free[0].tokens[4], free[1].tokens[2]]
    found = answer(pretrained.model, pretrained.processor, PROMPTS, most_tokens=12, stop=stop)
    for without, each in zip(free, found, strict=True):
        cut = next((i for i, token in enumerate(without.tokens) if token in stop), None)
        assert each.tokens == without.tokens[:cut]
        assert each.ended == (cut is not None)
    assert found[0].ended
    assert found[1].ended


@pytest.mark.parametrize("temperature", [0.0, 0.9])
def test_the_batch_changes_no_answer(tiny: Tiny, temperature: float) -> None:
    pretrained = tiny("llama_lm")
    named: dict[str, Any] = {"most_tokens": 12, "stop": (), "temperature": temperature, "top_p": 0.9, "seed": 5}
    together = generate(pretrained.model, pretrained.processor, PROMPTS, **named)
    alone = [generate(pretrained.model, pretrained.processor, [p], **named)[0] for p in PROMPTS]
    cramped = generate(pretrained.model, pretrained.processor, PROMPTS[::-1], tokens_at_once=30, **named)
    assert together == alone == cramped[::-1]


def test_a_seed_draws_one_answer_and_another_seed_another(tiny: Tiny) -> None:
    pretrained = tiny("llama_lm")

    def drawn(seed: int) -> list[str]:
        return generate(
            pretrained.model, pretrained.processor, PROMPTS, most_tokens=12, stop=(), temperature=1.5, seed=seed
        )

    torch.manual_seed(0)
    first = drawn(1)
    torch.manual_seed(1)
    assert first == drawn(1)
    assert first != drawn(2)


def test_tokens_are_drawn_as_often_as_their_probability_says(tiny: Tiny) -> None:
    from tunesmith.evaluate.generation import _Choice

    shares = torch.tensor([0.5, 0.05, 0.3, 0.15])
    prompts = [[number] for number in range(4_000)]
    logits = shares.log().expand(len(prompts), -1)
    drawn = torch.tensor(_Choice(prompts, Sampling(temperature=1.0))(logits, 0))
    found = torch.bincount(drawn, minlength=4) / len(prompts)
    assert torch.allclose(found, shares, atol=0.03)  # four standard deviations of 4,000 draws
    few = torch.tensor(_Choice(prompts, Sampling(temperature=1.0, top_p=0.7))(logits, 0))
    assert set(few.tolist()) == {0, 2}
    for none in (Sampling(temperature=1.0, top_p=0.0), Sampling(temperature=1e-320)):
        assert set(_Choice(prompts, none)(logits, 0)) == {0}
    cold = torch.tensor(_Choice(prompts, Sampling(temperature=0.05))(logits, 0))
    assert set(cold.tolist()) == {0}


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_stream_adds_up_to_the_answer(tiny: Tiny, temperature: float) -> None:
    pretrained = tiny("llama_lm")
    for prompt in PROMPTS:
        named: dict[str, Any] = {"most_tokens": 12, "stop": (9, 20), "temperature": temperature, "seed": 2}
        pieces = list(stream(pretrained.model, pretrained.processor, prompt, **named))
        assert "".join(pieces) == generate(pretrained.model, pretrained.processor, [prompt], **named)[0]
        assert all(pieces)


def test_memory_is_bounded_by_tokens_at_once(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    from tunesmith.evaluate import generation

    rows: list[int] = []
    plain = generation.decode

    def counted(model: Any, prompts: Any, **named: Any) -> Any:
        rows.append(len(prompts) * (max(map(len, prompts)) + named["most_tokens"]))
        return plain(model, prompts, **named)

    monkeypatch.setattr(generation, "decode", counted)
    pretrained = tiny("llama_lm")
    answer(pretrained.model, pretrained.processor, PROMPTS * 4, most_tokens=5, stop=(), tokens_at_once=40)
    assert max(rows) <= 40
    assert len(rows) > 2


def test_a_long_prompt_is_read_from_its_end_and_the_answer_says_so(tiny: Tiny) -> None:
    pretrained = tiny("gpt2_lm")  # 64 places
    long = [5 + i % 20 for i in range(90)]
    (found,) = answer(pretrained.model, pretrained.processor, [long], most_tokens=20, stop=())
    assert found.unread == 90 - 44
    assert list(found.tokens) == uncached(pretrained.model, long[-44:], 20)
    (half,) = answer(pretrained.model, pretrained.processor, [[5, 6]], most_tokens=500, stop=())
    assert len(half.tokens) == 32


def test_the_model_is_left_as_it_was(tiny: Tiny) -> None:
    pretrained = tiny("llama_lm")
    model = pretrained.model.train()
    pieces = stream(model, pretrained.processor, PROMPTS[1], most_tokens=8, stop=())
    next(pieces)
    assert model.training
    assert torch.is_grad_enabled()
    assert not torch.is_inference_mode_enabled()
    pieces.close()
    assert model.training
    assert all(p.grad is None for p in model.parameters())


def test_no_prompt_gives_no_answer(tiny: Tiny) -> None:
    pretrained = tiny("llama_lm")
    assert generate(pretrained.model, pretrained.processor, [], most_tokens=8, stop=()) == []


def test_a_broken_model_is_named_and_not_quoted(tiny: Tiny) -> None:
    pretrained = tiny("llama_lm")
    with torch.no_grad():
        next(pretrained.model.parameters()).fill_(float("nan"))
    with pytest.raises(ModelError, match="not a number"):
        generate(pretrained.model, pretrained.processor, PROMPTS, most_tokens=3, stop=())


def other_model(family: str, **sizes: Any) -> Any:
    """A random language model of another family, with our attention."""
    from transformers import AutoConfig, AutoModelForCausalLM

    from tunesmith.models.attention import use_attention

    small = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
             "intermediate_size": 48, "vocab_size": 50, "max_position_embeddings": 1024}  # fmt: skip
    torch.manual_seed(1)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(family, **small, **sizes)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(4 if parameter.ndim > 1 else 1)
    assert use_attention(model) == (family != "gemma2")  # its scores are capped, which ours does not do
    return model


def test_long_prompts_take_the_kernel_for_long_texts_to_the_same_answer(tiny: Tiny) -> None:
    model = other_model("llama")
    long = [[5 + (i * i + n) % 40 for i in range(300 - 20 * n)] for n in range(3)]
    found = answer(model, tiny("llama_lm").processor, long, most_tokens=6, stop=())
    assert [list(each.tokens) for each in found] == [uncached(model, prompt, 6) for prompt in long]
    from peft import PrefixTuningConfig, get_peft_model

    torch.manual_seed(2)
    prefixed = get_peft_model(model, PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=5)).eval()
    found = answer(prefixed, tiny("llama_lm").processor, long, most_tokens=6, stop=())
    assert [list(each.tokens) for each in found] == [uncached(prefixed, prompt, 6) for prompt in long]


@pytest.mark.parametrize(
    ("family", "sizes"),
    [
        ("mistral", {"sliding_window": 6}),
        ("gemma2", {"sliding_window": 6, "head_dim": 8}),
        ("qwen2", {}),
        ("qwen3", {"head_dim": 16}),
        ("phi3", {"pad_token_id": 0}),
    ],
)
def test_other_families_and_windows_answer_side_by_side_as_alone(tiny: Tiny, family: str, sizes: Any) -> None:
    model = other_model(family, **sizes)
    found = answer(model, tiny("llama_lm").processor, PROMPTS, most_tokens=10, stop=())
    assert [list(each.tokens) for each in found] == [uncached(model, prompt, 10) for prompt in PROMPTS]


@pytest.mark.parametrize("kind", MODELS)
def test_answers_are_those_of_transformers_own_generate(tiny: Tiny, kind: str) -> None:
    pretrained = tiny(kind)
    model: Any = pretrained.model
    for prompt, found in zip(
        PROMPTS, answer(model, pretrained.processor, PROMPTS, most_tokens=8, stop=()), strict=True
    ):
        ids = torch.tensor([prompt])
        model.set_attn_implementation("eager")
        plain = model.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=8, do_sample=False, eos_token_id=None
        )
        assert plain[0, len(prompt) :].tolist() == list(found.tokens)
