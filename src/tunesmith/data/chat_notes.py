"""What the person should know about chats: marks of templates in texts, names that wait to be filled in, turns cut."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from tunesmith.chats import Chat
from tunesmith.data.chat_forms import Reading
from tunesmith.data.chat_messages import keys_not_read

PLACEHOLDER = re.compile(r"(?<!\$)\{\{\s*([A-Za-z_]\w{0,40})\s*\}\}")
"""A name in two pairs of braces, such as {{name}}; not ${{name}}, which is code."""
MARKS = re.compile(
    r"<\|[a-z][a-z0-9_]{1,30}\|>|</?s>|\[/?INST\]|<</?SYS>>|<(?:start|end)_of_turn>|<(?:bos|eos)>|<｜[^｜<>]{1,40}｜>"
)
"""Words by which well-known chat templates mark turns and ends."""
_PLACES = 3
_WORDS = ("content", "reasoning_content")
"""What of a message is words."""


class ChatNotes:
    """Looks at every usable row. fill: what stands for a name in two pairs of braces."""

    def __init__(self, fill: Mapping[str, str]) -> None:
        self._fill = fill
        self._filled: set[str] = set()
        self._marks: Counter[str] = Counter()
        self._marked: list[str] = []
        self._waiting: Counter[str] = Counter()
        self._passed_over: Counter[str] = Counter()
        self._cut = self._others = self._only_read = 0

    def filled(self, reading: Reading) -> Reading:
        """The same with names filled in."""
        if not self._fill:
            return reading
        chat = reading.chat
        messages = tuple(
            {**message, **{key: self._put_in(message[key]) for key in _WORDS if key in message}}
            for message in chat.messages
        )
        text = None if chat.text is None else self._put_in(chat.text)
        answers = {role: self._put_in(answer) for role, answer in reading.answers.items()}
        return replace(reading, chat=Chat(messages, chat.tools, text), answers=answers)

    def look(self, reading: Reading, place: str, cells: Iterable[Any] = ()) -> None:
        """Count what is doubtful. place: the row's file and line. cells: what the row's chat was read from."""
        self._cut += bool(reading.cut)
        self._others += bool(reading.others)
        self._only_read += sum(message.get("learned") is False for message in reading.chat.messages)
        self._passed_over.update(set().union(*map(keys_not_read, cells)))
        texts = [message[key] for message in reading.chat.messages for key in _WORDS if key in message]
        texts += [*reading.answers.values(), reading.chat.text or ""]
        marks = sorted({mark for text in texts for mark in MARKS.findall(text)})
        self._marks.update(marks)
        if marks and len(self._marked) < _PLACES:
            self._marked.append(place)
        names = [name for text in texts if "{{" in text for name in PLACEHOLDER.findall(text)]
        self._waiting.update(list(dict.fromkeys(names)))

    def notes(self) -> Iterator[str]:
        """In sentences."""
        if self._marks:
            yield (
                f"MARKS: words that chat templates use as marks stand inside texts: {_counted(self._marks)}, the first "
                f"in {', '.join(self._marked)}. The texts are kept as they are; take the words out unless they are "
                f"meant, for a model may take them for the end of a turn or for a turn of somebody else."
            )
        if self._waiting:
            name = next(iter(self._waiting))
            names = Counter({f"{{{{{name}}}}}": count for name, count in self._waiting.items()})
            yield (
                f"UNFILLED: names that wait to be filled in: {_counted(names)}. The model would learn them letter by "
                f"letter; give what they stand for, such as data.fill.{name}=WORDS, or write it into the file."
            )
        if idle := [name for name in self._fill if name not in self._filled]:
            yield f"UNFILLED: data.fill names {', '.join(idle)}, but no text holds that in two pairs of braces."
        if self._cut:
            yield f"{self._cut:,} chat(s) do not end with an answer; what stands behind the last answer was cut off."
        if self._others:
            yield f"{self._others:,} row(s) have more than one answer; the first of each is used."
        if self._only_read:
            yield (
                f"{self._only_read:,} answer(s) are read, not learned, unless task.train_on is all: weight: 0, "
                f"train: false, or inside a prompt."
            )
        if self._passed_over:
            yield f"Messages have keys that are not used: {_counted(self._passed_over)}."

    def _put_in(self, text: str) -> str:
        return PLACEHOLDER.sub(self._value, text) if "{{" in text else text

    def _value(self, found: re.Match[str]) -> str:
        if found[1] not in self._fill:
            return found[0]
        self._filled.add(found[1])
        return self._fill[found[1]]


def _counted(words: Counter[str]) -> str:
    shown = ", ".join(f"{word} ({rows:,} rows)" for word, rows in words.most_common(5))
    return shown + (f" and {len(words) - 5} more" if len(words) > 5 else "")
