"""Chats written down in any form are read back as they were; garbage of any shape is a fault in words."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunesmith.chats import Chat
from tunesmith.data.chat_checks import checked
from tunesmith.data.chat_faults import ChatFault
from tunesmith.data.chat_forms import chat_form
from tunesmith.data.chat_messages import Message, messages_of
from tunesmith.data.columns import Look
from tunesmith.data.load_chats import load_chats
from tunesmith.data.options import DataOptions
from tunesmith.data.preference_forms import preference_form
from tunesmith.errors import DataError

WORDS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30).filter(
    lambda text: text.strip() != ""
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
KEYS = ("role", "from", "content", "value", "text", "tool_calls", "function_call", "name", "function", "arguments")
MESSAGES = st.lists(
    st.dictionaries(
        st.sampled_from(KEYS),
        st.sampled_from(["user", "human", "gpt", "assistant", "system", "tool", "function_call"]) | JSON,
    )
    | JSON,
    max_size=4,
)


@st.composite
def chats(draw: st.DrawFn) -> Chat:
    """A chat that is in order: questions, calls of tools with what they say, answers."""
    messages: list[Message] = []
    if draw(st.booleans()):
        messages.append({"role": "system", "content": draw(WORDS)})
    for _ in range(draw(st.integers(1, 3))):
        messages.append({"role": "user", "content": draw(WORDS)})
        if draw(st.booleans()):
            function = {"name": draw(WORDS), "arguments": draw(st.dictionaries(WORDS, JSON, max_size=2))}
            messages.append(
                {"role": "assistant", "content": "", "tool_calls": [{"type": "function", "function": function}]}
            )
            messages += [{"role": "tool", "content": draw(st.text(max_size=5))} for _ in range(draw(st.integers(1, 2)))]
        messages.append({"role": "assistant", "content": draw(WORDS)})
    return Chat(tuple(messages))


def openai(chat: Chat) -> dict[str, Any]:
    return {"messages": [dict(message) for message in chat.messages]}


def as_text(chat: Chat) -> dict[str, Any]:
    return {"messages": json.dumps(openai(chat)["messages"])}


def sharegpt(chat: Chat) -> dict[str, Any]:
    spoken = {"user": "human", "assistant": "gpt", "system": "system", "tool": "observation"}
    turns = []
    for message in chat.messages:
        if calls := message.get("tool_calls"):
            turns.append({"from": "function_call", "value": json.dumps(calls[0]["function"])})
        else:
            turns.append({"from": spoken[message["role"]], "value": message["content"]})
    return {"conversations": turns}


def read(row: Mapping[str, Any], *, preferences: bool = False, **options: Any) -> Any:
    look = Look(tuple(row), DataOptions(path="x", **options), "x", (row,), True)
    form = preference_form(look) if preferences else chat_form(look)
    return form.read(row)


def read_or_fault(row: Mapping[str, Any], *, preferences: bool = False) -> Any:
    try:
        return read(row, preferences=preferences)
    except (ChatFault, DataError) as fault:
        return fault


@given(chats())
def test_a_chat_is_read_as_it_was_written_in_every_form_of_messages(chat: Chat) -> None:
    for written in (openai, as_text, sharegpt):
        assert read(written(chat)).chat == chat


@given(chats())
def test_a_chat_survives_its_json(chat: Chat) -> None:
    assert Chat.from_json(chat.to_json()) == chat
    assert "\n" not in chat.to_json()


@given(WORDS, WORDS, st.just("") | WORDS, WORDS)
def test_columns_are_joined_the_usual_way(asked: str, answered: str, beside: str, system: str) -> None:
    whole = f"{asked}\n\n{beside}" if beside else asked
    expected = ({"role": "user", "content": whole}, {"role": "assistant", "content": answered})
    assert read({"instruction": asked, "input": beside, "output": answered}).chat.messages == expected
    assert read({"instruction": asked, "context": beside, "response": answered}).chat.messages == expected
    found = read({"q": asked, "a": answered, "s": system}, columns={"prompt": "q", "response": "a", "system": "s"})
    first = {"role": "system", "content": system}
    assert found.chat.messages == (first, {"role": "user", "content": asked}, expected[1])


@given(st.fixed_dictionaries({"messages": MESSAGES | JSON}, optional={"tools": JSON, "system": JSON}))
@settings(max_examples=80, deadline=None)
def test_garbage_instead_of_messages_is_a_fault_in_words_or_a_chat_in_order(row: dict[str, Any]) -> None:
    found = read_or_fault(row)
    if isinstance(found, ChatFault):
        assert str(found)
        return
    assert checked(list(found.chat.messages), needs_answer=True) == (list(found.chat.messages), 0)
    assert found.chat.answer() or found.chat.messages[-1].get("tool_calls")
    assert Chat.from_json(found.chat.to_json()) == found.chat


@pytest.mark.parametrize(
    ("columns", "preferences"),
    [
        (("instruction", "input", "output", "system", "history"), False),
        (("instruction", "instances"), False),
        (("prompt", "completion"), False),
        (("text",), False),
        (("prompt", "chosen", "rejected"), True),
        (("conversations", "chosen", "rejected", "tools"), True),
        (("prompt", "answer", "liked"), True),
        (("messages", "label"), True),
    ],
)
@given(st.data())
@settings(max_examples=25, deadline=None)
def test_garbage_in_any_column_is_a_fault_in_words(
    columns: tuple[str, ...], preferences: bool, data: st.DataObject
) -> None:
    row = {name: data.draw(JSON | MESSAGES) for name in columns}
    found = read_or_fault(row, preferences=preferences)
    if isinstance(found, ChatFault | DataError):
        assert str(found)
        return
    assert found.chat.messages or found.chat.text
    assert all(isinstance(text, str) for text in found.answers.values())


@given(st.lists(st.sampled_from(["good", "bad", "blank", "garbage"]), min_size=1, max_size=12), st.data())
@settings(max_examples=20, deadline=None)
def test_read_is_used_plus_quarantined_plus_blank(kinds: list[str], data: st.DataObject) -> None:
    lines = {"blank": "", "bad": '{"question": "q"}', "garbage": "{"}
    written = [lines.get(kind) or json.dumps({"question": data.draw(WORDS), "answer": data.draw(WORDS)})
               if kind != "blank" else "" for kind in kinds]  # fmt: skip
    with TemporaryDirectory() as folder:
        path = Path(folder) / "a.jsonl"
        path.write_text('{"question": "first", "answer": "a"}\n' + "".join(line + "\n" for line in written))
        summary = load_chats(DataOptions(path=str(path), max_bad_share=1), Path(folder) / "run", "chats").summary
    bad = kinds.count("bad") + kinds.count("garbage")
    assert (summary.used, summary.quarantined) == (kinds.count("good") + 1, bad)
    assert summary.read == len(kinds) + 1 == summary.used + summary.quarantined + summary.blank


@pytest.mark.parametrize(
    ("messages", "why"),
    [
        ([("assistant", "a")], "speaks first"),
        ([("tool", "a")], "a tool speaks first"),
        ([("user", "q")], "no message is from the assistant"),
        ([("user", "q"), ("user", "q"), ("assistant", "a")], "message 2 is from the user again"),
        ([("user", "q"), ("assistant", "a"), ("assistant", "b")], "message 3 is from the assistant again"),
        ([("user", "q"), ("system", "s"), ("assistant", "a")], "message 2 is from the system"),
        ([("system", "s"), ("system", "s"), ("user", "q"), ("assistant", "a")], "more than one system"),
        ([("system", "s")], "only the system"),
        ([("user", " "), ("assistant", "a")], "message 1 (user) is empty"),
        ([("user", "q"), ("assistant", "")], "message 2 (assistant) is empty"),
        ([("user", "q"), ("tool", "t"), ("assistant", "a")], "from the tool, where assistant should speak"),
        ([("alien", "?")], 'message 1 has the role "alien"'),
    ],
)
def test_a_chat_that_is_out_of_order_is_refused_with_the_message_that_is(
    messages: list[tuple[str, str]], why: str
) -> None:
    with pytest.raises(ChatFault) as fault:
        read({"messages": [{"role": role, "content": content} for role, content in messages]})
    assert why in str(fault.value)


@pytest.mark.parametrize(
    ("cell", "why"),
    [
        ("text", '"messages" is text, not a list of messages'),
        ("[{", "not valid JSON"),
        ([], "holds no message"),
        (None, '"messages" is empty'),
        (["hi"], "message 1 is text, not an object"),
        ([{"content": "a"}], "message 1 has no role"),
        ([{"role": "user", "content": 4}], "content of message 1 is a number, not text"),
        ([{"role": "user", "content": [{"type": "image_url"}]}], 'a part of type "image_url"'),
        ([{"from": "function_call", "value": "search"}], "function call of message 1 is not valid JSON"),
        ([{"role": "assistant", "tool_calls": [{"function": {}}]}], "has no name"),
        ([{"role": "assistant", "tool_calls": [{"name": "f", "arguments": "{"}]}], "arguments of f in message 1"),
        ([{"role": "assistant", "tool_calls": [{"name": "f", "arguments": [1]}]}], "are a list, not an object"),
    ],
)
def test_what_is_no_list_of_messages_is_refused_in_words(cell: Any, why: str) -> None:
    with pytest.raises(ChatFault) as fault:
        messages_of(cell, "messages")
    assert why in str(fault.value)
