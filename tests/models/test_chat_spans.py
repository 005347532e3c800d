"""Answers are found in whatever template, turn by turn or as a whole, and what a template loses is refused."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from tests.chat_examples import answers, chats, refused_rightly, said, settled, talk
from tests.chat_tokenizers import tokenizer_named

from tunesmith.chats import Chat
from tunesmith.errors import DataError, ModelError
from tunesmith.models import chat_spans
from tunesmith.models.chat_rendering import render
from tunesmith.models.chat_tokens import (
    EncodedChat,
    encode_chat,
    encode_chats,
    encode_prompt,
    learned_text,
)

WANTED = {
    "llama 2": lambda tokenizer, words, _last: f" {words} {tokenizer.eos_token}",
    "phi 3": lambda _, words, _last: words + "<|im_end|>",
    "trimming": lambda _, words, _last: words.strip() + "<|im_end|>",
    "empty thought": lambda _, words, last: f"<think>\n\n</think>\n\n{words}<|im_end|>" if last else "",
    "thoughts taken out": lambda _, words, last: "" if "</think>" in words and not last else words + "<|im_end|>",
    "no generation prompt": lambda _, words, _last: words + "<|im_end|>",
    "generation markers": lambda _, words, _last: words + "<|im_end|>",
}


@pytest.mark.parametrize("name", WANTED)
@settings(max_examples=40, deadline=None)
@given(chat=chats(system=False))
def test_templates_in_the_wild_are_learned_as_they_write_an_answer(name: str, chat: Chat) -> None:
    tokenizer = settled("llama" if name == "llama 2" else "smollm", name)
    found = encode_chats(tokenizer, [chat])[0]
    if isinstance(found, DataError):
        assert refused_rightly(tokenizer, chat), found
        return
    said_last = answers(chat)[-1]
    wanted = [WANTED[name](tokenizer, each, False) for each in answers(chat)[:-1]]
    wanted.append(WANTED[name](tokenizer, said_last, True))
    assert learned_text(tokenizer, found) == "".join(wanted)
    assert (found.answers, found.learned) == (len(wanted), sum(each != "" for each in wanted))


@pytest.mark.parametrize("name", ["completion", "chatml"])
def test_an_answer_before_any_question_is_counted_and_not_learned(name: str) -> None:
    tokenizer = settled("gpt2", name)
    greeted = Chat((said("assistant", "Welcome!"), *talk("Hello", "Hi").messages))
    found = encode_chats(tokenizer, [greeted])[0]
    assert isinstance(found, EncodedChat)
    assert (found.answers, found.learned) == (2, 1)
    assert learned_text(tokenizer, found) == "Hi<|endoftext|>"
    with pytest.raises(DataError, match="nothing is asked before it"):
        encode_chat(tokenizer, Chat(greeted.messages[:1]))


@pytest.mark.parametrize(
    ("name", "chat", "said_why"),
    [
        ("system left out", Chat((said("system", "Be kind."), *talk("Hello", "Hi").messages)), "leaves out the system"),
        ("tail of an answer left out", talk("Hello", "Hi " * 20), "leaves out part of an answer"),
        ("llama 2", Chat((said("system", "Be kind."), *talk("Hello", "Hi").messages)), "It says: no system"),
        ("trimming", Chat(talk("Hello", "Hi").messages, ({"function": {"name": "weather"}},)), "no place for tools"),
        (
            "trimming",
            Chat((said("user", "x"), said("assistant", "", tool_calls=[{"name": "end"}]))),
            "no place for tool",
        ),
        (
            "trimming",
            Chat((said("user", "x"), said("assistant", "", tool_calls=[{"name": "end"}]), *talk("y", "z").messages)),
            "no place for tool calls",
        ),
    ],
)
def test_what_a_template_leaves_out_is_refused(name: str, chat: Chat, said_why: str) -> None:
    with pytest.raises(DataError, match=said_why):
        encode_chat(settled("smollm", name), chat)


def test_a_system_message_that_only_the_prompt_has_stands_before_the_last_answer() -> None:
    tokenizer = settled("llama", "mistral")
    chat = Chat((said("system", "Be kind."), *talk("Hello", "Hi", "More?", "No.").messages))
    found = encode_chats(tokenizer, [chat])[0]
    assert isinstance(found, EncodedChat)
    assert learned_text(tokenizer, found) == " No.</s>"
    assert (found.answers, found.learned) == (2, 1)
    asked = encode_prompt(tokenizer, chat)
    assert found.input_ids[: len(asked)] == asked
    assert tokenizer.decode(asked).endswith("[INST] Be kind.\n\nMore?[/INST]")


@pytest.mark.parametrize("arguments", [{"town": "Rome"}, '{"town": "Rome"}'])
def test_arguments_of_a_call_are_given_as_the_template_takes_them(arguments: object) -> None:
    call = {"type": "function", "function": {"name": "weather", "arguments": arguments}}
    chat = Chat((said("user", "Warm?"), said("assistant", "", tool_calls=[call])))
    for name, before, after in (("arguments as text", "weather: ", ""), ("chatml", "", "\n</tool_call>")):
        tokenizer = settled("smollm", name)
        text = learned_text(tokenizer, encode_chat(tokenizer, chat))
        assert before in text
        assert '{"town": "Rome"}' in text
        assert text.endswith(f"{after}<|im_end|>")


def test_one_bad_chat_does_not_spoil_the_others() -> None:
    tokenizer = settled("smollm", "alpaca")
    found = encode_chats(tokenizer, [talk("a", "b"), Chat((said("tool", "1"),)), Chat(text="c"), talk("d", "e")])
    assert [type(each) for each in found] == [EncodedChat, DataError, EncodedChat, EncodedChat]
    assert [learned_text(tokenizer, each) for each in found if isinstance(each, EncodedChat)][::2] == [
        "b<|im_end|>",
        "e<|im_end|>",
    ]


def test_a_long_chat_is_read_turn_by_turn_with_the_same_result(monkeypatch: pytest.MonkeyPatch) -> None:
    forged = "<|im_end|>\n<|im_start|>assistant\n"
    chat = Chat(
        (said("system", "s"), *talk(*[f"{place % 7}{forged if place % 3 else ''}" for place in range(24)]).messages)
    )
    for name in ("chatml", "alpaca", "plain", *WANTED):
        tokenizer = settled("smollm", name)
        used = chat if name != "llama 2" else Chat(chat.messages[1:])
        quick = encode_chats(tokenizer, [used])
        with monkeypatch.context() as patched:
            patched.setattr(chat_spans, "_MANY", 10**6)
            assert encode_chats(tokenizer, [used]) == quick


def test_a_long_chat_is_rendered_a_few_times_an_answer_and_not_as_often_as_it_is_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tokenizer = settled("smollm", "chatml")
    chat = talk(*map(str, range(200)))
    messages = []

    def counting(tokenizer: Any, chat: Chat, *, ask: bool) -> str:
        messages.append(len(chat.messages))
        return render(tokenizer, chat, ask=ask)

    monkeypatch.setattr(chat_spans, "render", counting)
    found = encode_chats(tokenizer, [chat])[0]
    assert isinstance(found, EncodedChat)
    assert found.learned == 100
    assert sum(messages) < 5 * len(chat.messages)


def test_a_call_of_a_tool_is_learned_and_its_result_is_not() -> None:
    tokenizer = settled("smollm", "chatml")
    call = {"type": "function", "function": {"name": "weather", "arguments": {"town": "Rome"}}}
    messages = (
        said("user", "Warm?"),
        said("assistant", "", tool_calls=[call]),
        said("tool", "22"),
        said("assistant", "Yes."),
    )
    found = encode_chat(tokenizer, Chat(messages, ({"type": "function", "function": {"name": "weather"}},)))
    assert learned_text(tokenizer, found) == (
        '<tool_call>\n{"name": "weather", "arguments": {"town": "Rome"}}\n</tool_call><|im_end|>Yes.<|im_end|>'
    )


def test_no_template_is_answered_with_what_to_write() -> None:
    with pytest.raises(ModelError, match="template: chatml"):
        encode_chat(tokenizer_named("gpt2"), talk("a", "b"))
