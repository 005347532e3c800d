"""The check of a row's chat on its way to disk, and when two rows say the same: by what is asked, not by the answer.

Rows that ask the same belong into one part: a held-out question that was trained on proves nothing, whatever was
answered. So do rows of which one goes on where the other ends, such as a row for each turn of a conversation: all
answers of a row are learned from, and they share some.
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tunesmith.chats import Chat
from tunesmith.data.duplicates import key_of, keys_of, normalised
from tunesmith.data.store import Kept
from tunesmith.data.texts import undecodable


class ChatCells:
    """Takes one row's chat after the other, as `load_chats.py` made it; nothing is kept."""

    facts: tuple[str, ...] = ()

    def __init__(self) -> None:
        self._asked = False
        self._turns, self._ends = array("Q"), array("Q")  # keys of each row up to every answer, the last its own

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
        self._turns.extend(_up_to_answers(inputs["chat"]))
        self._ends.append(len(self._turns))
        return Kept([inputs.get(column) for column in columns], exact, normal)

    def notes(self) -> list[str]:
        """Nothing is mended here."""
        return []

    def links(self) -> np.ndarray | None:
        """A key for each row [rows], the same for rows of which one goes on where the other ends; None if none does."""
        turns, ends = np.array(self._turns, dtype=np.uint64), np.array(self._ends, dtype=np.int64)
        if not len(ends):
            return None
        own = turns[ends - 1]
        whole = np.isin(turns, own)
        place = np.arange(len(turns))
        starts = np.concatenate([[0], ends[:-1]])
        first = np.minimum.reduceat(np.where(whole, place, len(turns)), starts)
        roots: np.ndarray = turns[first]
        return None if np.array_equal(roots, own) else roots

    def close(self, *, keep: bool) -> None:
        """Nothing to end."""


def chat_keys(inputs: Mapping[str, str]) -> tuple[bytes, bytes]:
    """Keys of all that a row says, and of what it asks but for case, outer blanks and Unicode form; of a plain text
    the second is the text's. UnicodeEncodeError where a text holds half a surrogate pair."""
    chat = Chat.from_json(inputs["chat"])
    if chat.text is not None:
        return keys_of((chat.text,))
    asked = [normalised(text) for message in chat.prompt().messages for text in _words(message)]
    return key_of(tuple(inputs.values())), key_of(asked)


def _up_to_answers(line: str) -> list[int]:
    """Keys of a chat up to each of its answers, and of all of it; of a text its own."""
    chat = Chat.from_json(line)
    if chat.text is not None:
        return [int.from_bytes(key_of((chat.text,)), "little")]
    said: list[str] = []
    found = []
    for place, message in enumerate(chat.messages, 1):
        said += [normalised(text) for text in _words(message)]
        if message["role"] == "assistant" or place == len(chat.messages):
            found.append(int.from_bytes(key_of(said), "little"))
    return found


def _words(message: Mapping[str, Any]) -> tuple[str, ...]:
    calls = message.get("tool_calls")
    return message["role"], message["content"], json.dumps(calls, sort_keys=True) if calls else ""
