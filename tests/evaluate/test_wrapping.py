"""Answers are shown and scored without what a chat template puts before their words."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from tests.chat_tokenizers import tokenizer_named
from transformers import PretrainedConfig

from tunesmith.chats import Chat
from tunesmith.evaluate.generation import Answer
from tunesmith.evaluate.wrapping import final_words, opening_of, unwrapped, unwrapped_pieces
from tunesmith.models.chat_tokens import encode_chat
from tunesmith.run import answered
from tunesmith.tasks._answers import AnswerOptions
from tunesmith.train.device import Device


def chatml(opening: str, asked: str = "") -> str:
    """ChatML whose answers open with `opening`, the first `asked` of which is part of the generation prompt."""
    return (
        "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' }}"
        f"{{% if m.role == 'assistant' %}}{{{{ {asked + opening!r} }}}}{{% endif %}}"
        "{{ m.content + '<|im_end|>\n' }}{% endfor %}"
        f"{{% if add_generation_prompt %}}{{{{ '<|im_start|>assistant\n' + {asked!r} }}}}{{% endif %}}"
    )


TEMPLATES = {
    "qwen3": (chatml("<think>\n\n</think>\n\n"), "<think>\n\n</think>"),
    "qwen3.5 that thinks": (chatml("\n</think>\n\n", "<think>\n"), "</think>"),
    "gpt-oss": (chatml("<|channel|>final<|message|>"), "final"),
    "plain": (chatml(""), ""),
}


def tokenizer_of(name: str) -> Any:
    made = tokenizer_named("smollm", TEMPLATES[name][0])
    made.add_tokens(["<think>", "</think>"])
    made.add_special_tokens({"additional_special_tokens": ["<|channel|>", "<|message|>"]})
    return made


def learned(tokenizer: Any, words: str) -> str:
    """What a model that learned this answer by heart writes."""
    asked = {"role": "user", "content": "Capital of France?"}
    labels = encode_chat(tokenizer, Chat((asked, {"role": "assistant", "content": words})))["labels"]
    return str(tokenizer.decode([label for label in labels if label >= 0], skip_special_tokens=True))


@pytest.mark.parametrize("name", TEMPLATES)
def test_what_is_left_of_a_learned_answer_is_what_was_wanted(name: str) -> None:
    tokenizer = tokenizer_of(name)
    opening = opening_of(tokenizer)
    assert opening == TEMPLATES[name][1]
    said = learned(tokenizer, "final: Paris.")
    assert (said.strip() == "final: Paris.") == (name == "plain")
    assert unwrapped(said, opening) == "final: Paris."
    assert "".join(unwrapped_pieces(iter(said), opening)).strip() == "final: Paris."
    assert "".join(unwrapped_pieces(iter([said[:3], said[3:]]), opening)).strip() == "final: Paris."


def test_real_thoughts_are_shown_and_not_scored() -> None:
    said = "<think>\nFrance, so\n</think>\n\nParis."
    opening = TEMPLATES["qwen3"][1]
    assert unwrapped(said, opening) == "".join(unwrapped_pieces(iter(said), opening)) == said
    assert final_words(said) == "Paris."
    assert final_words("<think>\nnever done") == "<think>\nnever done"
    for whole in ("", "<think>", " Paris.  ", "<th is it"):
        assert "".join(unwrapped_pieces(iter(whole), opening)) == whole
    assert "".join(unwrapped_pieces(iter(opening + "\n"), opening)) == unwrapped(opening, opening) == ""


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_perfect_answer_has_a_perfect_score(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = tokenizer_of(name)
    said = learned(tokenizer, "Paris.")
    monkeypatch.setattr(answered, "answer", lambda *_, **__: [Answer(said, (1,), True)] * 3)
    model = SimpleNamespace(config=PretrainedConfig(), generation_config=None)
    ready: Any = SimpleNamespace(pretrained=SimpleNamespace(processor=tokenizer, model=model), device=Device())
    rows: list[dict[str, Any]] = [
        {"prompt": [1], "wanted": "Paris.", "chat": {"messages": []}},
        {"prompt": [1], "wanted": "<think>\nof course\n</think>\n\nParis.", "chat": {"messages": []}},
        {"prompt": [1], "wanted": "Paris.", "chat": {"text": "The capital is"}},
    ]
    options = AnswerOptions(scores=("exact_match", "normalised_match", "rouge_l"))
    answered._answer(ready, model, rows, options, "after")  # type: ignore[arg-type]
    assert [row["after"]["text"] for row in rows] == ["Paris.", "Paris.", said.strip()]
    scored = answered._scored(rows, options, "after")
    assert {float(value) for values in scored.values() for value in values[:2]} == {1.0}
