"""Rows of tokens: what packing changes is nothing but the place of a token."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from tunesmith.chats import UNLEARNED, Chat
from tunesmith.models.attention import use_attention
from tunesmith.models.chat_tokens import EncodedChat
from tunesmith.models.chunked_head import label_losses
from tunesmith.tasks import _language as language
from tunesmith.tasks import _language_models as language_models
from tunesmith.tasks.causal_lm import CausalLm
from tunesmith.types import Example, Pretrained

VOCABULARY = 50


def made(kind: str) -> Any:
    torch.manual_seed(0)
    if kind == "gpt2":
        model: Any = GPT2LMHeadModel(GPT2Config(vocab_size=VOCABULARY, n_embd=32, n_layer=2, n_head=4, n_positions=64,
                                                resid_pdrop=0, embd_pdrop=0, attn_pdrop=0))  # fmt: skip
    else:
        sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
        model = LlamaForCausalLM(LlamaConfig(vocab_size=VOCABULARY, num_key_value_heads=2, **sizes))
    use_attention(model)
    return model.eval()


MODELS = {kind: made(kind) for kind in ("gpt2", "llama")}


def drawn(seed: int, lengths: list[int]) -> list[dict[str, list[int]]]:
    draw = np.random.default_rng(seed)
    rows = []
    for length in lengths:
        ids = draw.integers(1, VOCABULARY, length).tolist()
        start = int(draw.integers(1, length))
        rows.append({"input_ids": ids, "labels": [UNLEARNED] * start + ids[start:]})
    return rows


def gradients(model: Any, batch: Any) -> tuple[float, int, list[torch.Tensor]]:
    model.zero_grad()
    total, count = label_losses(model, language.forward_inputs(batch), batch.labels, chunk=16)
    total.backward()
    return total.item(), count, [p.grad.clone() for p in model.parameters() if p.grad is not None]


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000), st.lists(st.integers(2, 30), min_size=1, max_size=9))
def test_packed_rows_give_the_loss_and_gradient_of_padded_ones(kind: str, seed: int, lengths: list[int]) -> None:
    rows = drawn(seed, lengths)
    model = copy.deepcopy(MODELS[kind])
    one = gradients(model, language.padded(rows, 0, None, most=64))
    two = gradients(model, language.packed(rows, 0, None, most=64))
    assert one[1] == two[1] == sum(label != UNLEARNED for row in rows for label in row["labels"][1:])
    assert one[0] == pytest.approx(two[0], rel=1e-5)
    for a, b in zip(one[2], two[2], strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5 * max(1.0, float(a.abs().max())))


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_a_packed_neighbour_changes_no_answer(kind: str) -> None:
    first, second = drawn(3, [12, 9])
    other = drawn(8, [12])[0]
    task = CausalLm(packing=True)
    answers = task.predict(MODELS[kind], language.packed([first, second], 0, None, most=64))
    beside = task.predict(MODELS[kind], language.packed([other, second], 0, None, most=64))
    np.testing.assert_allclose(answers[1], beside[1], rtol=1e-5)
    alone = task.predict(MODELS[kind], language.padded([second], 0, None, most=64))
    np.testing.assert_allclose(answers[1], alone[0], rtol=1e-5)


def test_micro_batches_of_packed_rows_add_up() -> None:
    rows = drawn(5, [4, 20, 7, 9, 16, 3])
    whole = gradients(MODELS["llama"], language.packed(rows, 0, None, most=64))
    parts = [gradients(MODELS["llama"], language.packed(some, 0, None, most=64)) for some in (rows[:2], rows[2:])]
    assert whole[0] == pytest.approx(sum(part[0] for part in parts), rel=1e-5)
    for number, gradient in enumerate(whole[2]):
        summed = sum(part[2][number] for part in parts)
        torch.testing.assert_close(gradient, summed, rtol=1e-4, atol=1e-5 * max(1.0, float(gradient.abs().max())))


def test_the_first_token_is_never_learned_since_nothing_tells_it() -> None:
    row = {"input_ids": [5, 6, 7], "labels": [5, 6, 7]}
    for made in (language.padded([row, row], 0, None, most=64), language.packed([row, row], 0, None, most=64)):
        assert made.labels is not None
        learned = (made.labels != UNLEARNED).sum()
        assert int(learned) == 4


def test_packed_rows_count_examples_and_tokens_not_rows() -> None:
    rows = drawn(1, [5, 6, 20])
    batch = language.packed(rows, 0, None, most=64)
    assert len(batch) == 3
    assert int(batch.inputs["attention_mask"].sum()) == 31
    assert len(batch.inputs["input_ids"]) == 2


def test_windows_of_one_long_text_turn_it_into_tokens_once(monkeypatch: pytest.MonkeyPatch) -> None:
    from tunesmith.models import chat_tokens

    seen: list[str] = []

    def counted(_tokenizer: Any, chats: Any, **_: Any) -> list[Any]:
        seen.extend(chat.text for chat in chats)
        return [EncodedChat(list(range(20)), list(range(20)), 20) for _ in chats]

    monkeypatch.setattr(chat_tokens, "encode_chats", counted)
    windows = [Example({"chat": Chat(text=text).to_json(), "part": f"{n}/3"}) for text in "ab" for n in (1, 2, 3)]
    found = CausalLm(max_length=8).encode(windows, None)
    assert [row["input_ids"] for row in found] == [[*range(8)], [*range(8, 16)], [*range(16, 20)]] * 2
    assert seen == ["a", "b"]


def test_ways_to_generate_that_the_library_will_not_write_are_written(
    tiny: Callable[[str], Pretrained], tmp_path: Path
) -> None:
    pretrained = tiny("llama_lm")
    (tmp_path / "out").mkdir()
    model: Any = pretrained.model
    model.generation_config.temperature, model.generation_config.top_p = 0.9, 0.6  # as Vicuna's, without do_sample
    language_models.write_companions(pretrained, tmp_path / "out")
    kept = json.loads((tmp_path / "out" / "generation_config.json").read_text(encoding="utf-8"))
    assert (kept["temperature"], kept["top_p"]) == (0.9, 0.6)
