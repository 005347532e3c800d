"""An example as it is put to a language model: the prompt's tokens, and the answer that is wanted."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tunesmith.chats import Chat
from tunesmith.models.chat_tokens import encode_prompt
from tunesmith.types import Example, Examples

OPENING = 32
"""Tokens of a plain text that are given to go on from; of a short one half."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A question to a model: what it reads, as a chat and as token ids, and the wanted answer, "" if none is told."""

    chat: Chat
    prompt: tuple[int, ...]
    wanted: str


def ask(example: Example, tokenizer: Any, *, most_tokens: int) -> Asked:
    """The prompt of an example of kind `chats` or `preferences`. A chat is asked without its last answer, which is what
    is wanted. Of a plain text the opening is given, and `most_tokens` of what follows are wanted. DataError where the
    model's template refuses the chat.
    """
    chat = Chat.from_json(str(example.inputs["chat"]))
    if chat.text is None:
        liked = str(example.inputs.get("answer", "")) if example.inputs.get("liked") == "true" else ""
        wanted = str(example.inputs.get("chosen", "")) or liked or chat.answer()
        return Asked(chat.prompt(), tuple(encode_prompt(tokenizer, chat)), wanted.strip())
    ids = encode_prompt(tokenizer, chat)
    given = max(1, min(OPENING, len(ids) // 2))
    opening, rest = (tokenizer.decode(some, skip_special_tokens=True)
                     for some in (ids[:given], ids[given : given + most_tokens]))  # fmt: skip
    return Asked(Chat(text=str(opening)), tuple(ids[:given]), str(rest).strip())


def first_asked(examples: Examples, tokenizer: Any, *, rows: int, most_tokens: int) -> Iterator[tuple[Example, Asked]]:
    """The first `rows` examples whose wanted answer has words; of a conversation or text that was split, the first
    part of these alone."""
    found, split = 0, set[tuple[str, int]]()  # files and lines of which a part was asked
    for example in examples:
        if found == rows:
            return
        if "part" in example.inputs and (example.file, example.line) in split:
            continue
        asked = ask(example, tokenizer, most_tokens=most_tokens)
        if asked.wanted and asked.prompt:
            found += 1
            split |= {(example.file, example.line)} if "part" in example.inputs else set()
            yield example, asked
