"""A conversation as it flows from the data to the model: messages, or a text to go on with. Kept as JSON text."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

ROLES = ("system", "user", "assistant", "tool")
UNLEARNED = -100
"""The label of a token that is read and not learned; torch's and transformers' losses leave it out."""


def is_learned(message: Mapping[str, Any]) -> bool:
    """Whether a message is an answer that is to be learned, and not only read."""
    return message.get("role") == "assistant" and message.get("learned", True) is not False


@dataclass(frozen=True, slots=True)
class Chat:
    """Messages in order, each with `role` (one of `ROLES`), `content` and perhaps `tool_calls`, `name` or
    `reasoning_content`, and the tools that were offered, as chat templates take them; or instead of both a plain
    `text`, every word of which is learned. An answer with `learned` False is read and not learned.
    """

    messages: tuple[Mapping[str, Any], ...] = ()
    tools: tuple[Mapping[str, Any], ...] = ()
    text: str | None = None

    def to_json(self) -> str:
        """One line of JSON; keys keep their order, for chat templates write a call's arguments in it."""
        if self.text is not None:
            return json.dumps({"text": self.text}, ensure_ascii=False)
        found: dict[str, Any] = {"messages": list(self.messages)}
        if self.tools:
            found["tools"] = list(self.tools)
        return json.dumps(found, ensure_ascii=False)

    @classmethod
    def from_json(cls, line: str) -> Chat:
        """What `to_json` wrote."""
        found = json.loads(line)
        return cls(tuple(found.get("messages", ())), tuple(found.get("tools", ())), found.get("text"))

    def prompt(self) -> Chat:
        """The chat up to its wanted answer: what a model is asked. A chat that ends with a question stays as it is."""
        place = self._wanted()
        return self if place is None else Chat(self.messages[:place], self.tools)

    def answer(self) -> str:
        """The wanted answer's words; empty where the chat does not end with an answer."""
        place = self._wanted()
        return "" if place is None else str(self.messages[place].get("content") or "")

    def _wanted(self) -> int | None:
        """The place of the last answer that is learned, or of the last where none is."""
        if not self.messages or self.messages[-1]["role"] != "assistant":
            return None
        learned = (place for place, each in enumerate(self.messages) if is_learned(each))
        return max(learned, default=len(self.messages) - 1)
