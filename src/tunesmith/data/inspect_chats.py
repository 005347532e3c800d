"""What chats hold: their forms, who speaks how often, how long questions and answers are."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from tunesmith.chats import Chat
from tunesmith.types import DataSummary, Examples


@dataclass(frozen=True, slots=True)
class ChatFigures:
    """Figures on chats, texts or preferences.

    forms: form to the number of tables in it. messages: role to the number of messages. texts: rows that hold a plain
    text; tools: rows that offer tools. turns: percentile name (`least`, `p50` ...) to answers a chat; asked, answered:
    to characters of the last question, and of an answer that holds words (or of a text); None where there is none.
    preferences: rows with two answers (`pairs`), or with one that is `liked` or `disliked`.
    """

    forms: Mapping[str, int]
    messages: Mapping[str, int]
    texts: int
    tools: int
    turns: Mapping[str, int] | None
    asked: Mapping[str, int] | None
    answered: Mapping[str, int] | None
    preferences: Mapping[str, int]

    @property
    def noun(self) -> str:
        """What rows are compared by."""
        return "question" if self.messages else "text"

    def lines(self) -> Iterator[str]:
        """In words, one idea a line."""
        yield "Forms: " + ", ".join(f"{form} ({tables})" if tables > 1 else form for form, tables in self.forms.items())
        if self.texts:
            yield f"Texts to go on with: {self.texts:,}"
        if self.messages:
            yield "Messages: " + ", ".join(f"{role} {count:,}" for role, count in self.messages.items())
        if self.tools:
            yield f"  {self.tools:,} chats offer tools"
        if self.preferences:
            yield "Preferences: " + ", ".join(f"{name} {count:,}" for name, count in self.preferences.items())
        for what, found in (
            ("Answers a chat", self.turns),
            ("Characters a question", self.asked),
            ("Characters an answer" if self.messages else "Characters a text", self.answered),
        ):
            if found is not None:
                yield f"{what}: " + ", ".join(f"{name} {count:,}" for name, count in found.items())


def chat_figures(parts: Iterable[Examples], summary: DataSummary) -> ChatFigures | None:
    """Figures on all examples, read once; None where they are no chats."""
    forms = Counter(str(facts["form"]) for facts in summary.files if "form" in facts)
    if not forms:
        return None
    messages: Counter[str] = Counter()
    preferences: Counter[str] = Counter()
    turns: list[int] = []
    asked: list[int] = []
    answered: list[int] = []
    texts = tools = 0
    for examples in parts:
        for example in examples:
            chat = Chat.from_json(example.inputs["chat"])
            texts += chat.text is not None
            tools += bool(chat.tools)
            answers = [message for message in chat.messages if message["role"] == "assistant"]
            messages.update(message["role"] for message in chat.messages)
            turns += [len(answers)] if chat.messages and "chosen" not in example.inputs else []
            asked += [len(message["content"]) for message in chat.messages if message["role"] == "user"][-1:]
            preferences.update(_sort(example.inputs))
            given = [example.inputs[name] for name in ("chosen", "rejected", "answer") if name in example.inputs]
            answered += [len(text) for text in given or [message["content"] for message in answers] if text]
            answered += [len(chat.text)] if chat.text is not None else []
    return ChatFigures(
        dict(forms), dict(messages.most_common()), texts, tools, _percentiles(turns) if not preferences else None,
        _percentiles(asked), _percentiles(answered), dict(preferences),
    )  # fmt: skip


def words_of(inputs: Mapping[str, Any]) -> str:
    """All that a row says, in order: what its tokens are counted of."""
    chat = Chat.from_json(inputs["chat"])
    words = [chat.text or "", *(message["content"] for message in chat.messages)]
    words += [message["reasoning_content"] for message in chat.messages if "reasoning_content" in message]
    words += [json.dumps(message["tool_calls"]) for message in chat.messages if message.get("tool_calls")]
    return "\n".join([*words, *(inputs[name] for name in ("chosen", "rejected", "answer") if name in inputs)]).strip()


def _sort(inputs: Mapping[str, Any]) -> list[str]:
    if "chosen" in inputs:
        return ["pairs"]
    return [] if "liked" not in inputs else ["liked" if inputs["liked"] == "true" else "disliked"]


def _percentiles(counts: list[int]) -> dict[str, int] | None:
    marks = {"least": 0, "p50": 50, "p90": 90, "p99": 99, "most": 100}
    if not counts:
        return None
    return {name: int(np.percentile(counts, q, method="inverted_cdf")) for name, q in marks.items()}
