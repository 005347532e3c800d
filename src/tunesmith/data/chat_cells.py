"""The check of a row's chat on its way to disk, and when two rows say the same: by what is asked, not by the answer.

Rows that ask the same belong into one part: a held-out question that was trained on proves nothing, whatever was
answered. Of a conversation that is the first question with what the system says: its answers are all learned from, so
rows that begin alike, such as one for each turn, would share some.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tunesmith.chats import Chat
from tunesmith.data.duplicates import key_of, keys_of, normalised
from tunesmith.data.store import Kept
from tunesmith.data.texts import undecodable


class ChatCells:
    """Takes one row's chat after the other, as `load_chats.py` made it; nothing is kept."""

    facts: tuple[str, ...] = ()

    def __init__(self) -> None:
        self._asked = False

    @property
    def noun(self) -> str:
        """What rows are compared by: a question, or where no row asks anything the text."""
        return "question" if self._asked else "text"

    def check(
        self, values: Mapping[str, Any], columns: Sequence[str], *, encoding: str, within: Path | None, own_file: bool
    ) -> Kept | str:
        """The row's inputs with their keys, or why they cannot be written. within, own_file: as in `texts.py`."""
        inputs = {column: values[column] for column in columns if values.get(column) is not None}
        try:
            exact, normal = chat_keys(inputs)
        except UnicodeEncodeError:
            return undecodable("".join(inputs.values()), encoding)
        self._asked = self._asked or not inputs["chat"].startswith('{"text"')
        return Kept([inputs.get(column) for column in columns], exact, normal)

    def notes(self) -> list[str]:
        """Nothing is mended here."""
        return []

    def close(self, *, keep: bool) -> None:
        """Nothing to end."""


def chat_keys(inputs: Mapping[str, str]) -> tuple[bytes, bytes]:
    """Keys of all that a row says, and of what it asks first but for case, outer blanks and Unicode form; of a plain
    text the second is the text's. UnicodeEncodeError where a text holds half a surrogate pair."""
    chat = Chat.from_json(inputs["chat"])
    if chat.text is not None:
        return keys_of((chat.text,))
    turns = chat.prompt().messages
    users = [place for place, message in enumerate(turns) if message["role"] == "user"]
    first = users[0] + 1 if users else len(turns)
    asked = [normalised(text) for message in turns[:first] for text in _words(message)]
    return key_of(tuple(inputs.values())), key_of(asked)


def _words(message: Mapping[str, Any]) -> tuple[str, ...]:
    calls = message.get("tool_calls")
    return message["role"], message["content"], json.dumps(calls, sort_keys=True) if calls else ""
