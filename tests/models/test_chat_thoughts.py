"""Thoughts before an answer, answers that are only read, and what is counted of those that are not learned."""

from __future__ import annotations

from typing import Any

import pytest
from tests.chat_examples import said, settled, talk
from tests.chat_tokenizers import tokenizer_named

from tunesmith.chats import UNLEARNED, Chat
from tunesmith.models.chat_templates import settle_template
from tunesmith.models.chat_tokens import EncodedChat, TrainOn, encode_chats, learned_text

_PARTED = (
    "{% set thought = m.reasoning_content or '' %}{% set words = m.content %}{% if '</think>' in words %}"
    "{% set thought = words.split('</think>')[0].split('<think>')[-1].strip() %}"
    "{% set words = words.split('</think>')[-1].strip() %}{% endif %}"
)
_THINKS = (
    "{% set ns = namespace(last=0) %}{% for m in messages %}{% if m.role == 'user' %}{% set ns.last = loop.index0 %}"
    "{% endif %}{% endfor %}{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' }}"
    "{% if m.role == 'assistant' and loop.index0 > ns.last and (loop.last or not CALLS) %}"
    + _PARTED
    + "{{ '<think>\n' + thought + '\n</think>\n\n' + words }}{% else %}{{ m.content }}{% endif %}"
    "{% for call in m.tool_calls or [] %}{{ call.function.name }}{% endfor %}{{ '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}OPENING{% endif %}"
)
QWEN3 = _THINKS.replace("CALLS", "true").replace("OPENING", "")
"""As Qwen 3's: thoughts in the last answer alone, an empty one where there is none, nothing before a call."""
QWEN35 = _THINKS.replace("CALLS", "false").replace("OPENING", "{{ '<think>\n' }}")
"""As Qwen 3.5's: the question ends with the thought's beginning."""
ALIAS = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' }}{% if m.thinking %}{{ '[' + m.thinking + ']' }}"
    "{% endif %}{{ m.content + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
CALL = {"type": "function", "function": {"name": "weather", "arguments": {}}}


def encoded(template: str, chat: Chat, *, train_on: TrainOn = "responses") -> tuple[Any, EncodedChat]:
    tokenizer = tokenizer_named("smollm", template)
    settle_template(tokenizer, "auto")
    found = encode_chats(tokenizer, [chat], train_on=train_on)[0]
    assert isinstance(found, EncodedChat), found
    return tokenizer, found


@pytest.mark.parametrize(
    ("template", "learned"),
    [
        (QWEN3, "<think>\nhm\n</think>\n\nYes.<|im_end|>"),
        (QWEN35, "hm\n</think>\n\nYes.<|im_end|>"),
        (ALIAS, "[hm]Yes.<|im_end|>"),
    ],
)
def test_thoughts_beside_an_answer_are_learned_as_the_template_writes_them(template: str, learned: str) -> None:
    chat = Chat((said("user", "Well?"), said("assistant", "Yes.", reasoning_content="hm")))
    tokenizer, found = encoded(template, chat)
    assert learned_text(tokenizer, found) == learned
    assert found.unthought == 0


def test_thoughts_that_a_template_has_no_place_for_are_counted() -> None:
    chat = Chat(
        (said("user", "Well?"), said("assistant", "Yes.", reasoning_content="hm"), *talk("And?", "No.").messages)
    )
    found = encode_chats(settled("smollm", "chatml"), [chat])[0]
    assert isinstance(found, EncodedChat)
    assert (found.answers, found.learned, found.unthought) == (2, 2, 1)


def test_a_thought_whose_beginning_stands_in_the_generation_prompt_is_not_left_out() -> None:
    tokenizer, found = encoded(QWEN35, talk("Well?", "<think>\nhm\n</think>\n\nYes."))
    assert learned_text(tokenizer, found) == "hm\n</think>\n\nYes.<|im_end|>"


def test_words_of_an_answer_that_stand_only_in_the_question_are_still_left_out() -> None:
    silent = QWEN3.replace("{{ '<think>\n' + thought + '\n</think>\n\n' + words }}", "{{ 'Tunesmith answers: four' }}")
    tokenizer = tokenizer_named("smollm", silent)
    assert "leaves out part of an answer" in str(encode_chats(tokenizer, [talk("Say Yes.", "Yes.")])[0])


def test_answers_that_the_template_rewrites_are_counted_and_so_are_calls_among_them() -> None:
    _, turns = encoded(QWEN3, talk("One?", "1.", "Two?", "2."))
    assert (turns.answers, turns.learned, turns.rewritten, turns.calls) == (2, 1, 1, 0)
    called = (
        said("user", "Rain?"),
        said("assistant", "", tool_calls=[CALL]),
        said("tool", "no"),
        said("assistant", "No."),
    )
    _, calls = encoded(QWEN3, Chat(called))
    assert (calls.answers, calls.learned, calls.rewritten, calls.calls) == (2, 1, 1, 1)
    _, everything = encoded(QWEN3, Chat(called), train_on="all")
    assert (everything.rewritten, everything.calls) == (0, 0)


@pytest.mark.parametrize("turns", [2, 8])
def test_an_answer_that_is_marked_is_read_and_not_learned(turns: int) -> None:
    good = [each for n in range(turns - 1) for each in talk(f"Question {n}?", f"good {n}").messages]
    chat = Chat((said("user", "First?"), said("assistant", "bad", learned=False), *good))
    tokenizer = settled("smollm", "chatml")
    found = encode_chats(tokenizer, [chat])[0]
    assert isinstance(found, EncodedChat)
    assert "bad" in tokenizer.decode(found.input_ids)
    assert learned_text(tokenizer, found) == "".join(f"good {n}<|im_end|>" for n in range(turns - 1))
    assert (found.answers, found.learned, found.rewritten) == (turns, turns - 1, 0)


def test_what_follows_the_last_answer_that_is_learned_is_not_kept() -> None:
    tokenizer = settled("smollm", "chatml")
    marked = Chat((*talk("One?", "good", "Two?").messages, said("assistant", "bad", learned=False)))
    assert encode_chats(tokenizer, [marked]) == encode_chats(tokenizer, [talk("One?", "good")])
    none = Chat((said("user", "One?"), said("assistant", "bad", learned=False)))
    found = encode_chats(tokenizer, [none])[0]
    assert isinstance(found, EncodedChat)
    assert set(found.labels) == {UNLEARNED}


def test_train_on_all_learns_marked_answers_too() -> None:
    tokenizer = settled("smollm", "chatml")
    marked = Chat((said("user", "One?"), said("assistant", "bad", learned=False), *talk("Two?", "good").messages))
    plain = talk("One?", "bad", "Two?", "good")
    assert encode_chats(tokenizer, [marked], train_on="all") == encode_chats(tokenizer, [plain], train_on="all")
