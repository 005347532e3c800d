"""Chats that are longer than a model may read, cut from the side of the prompt: the oldest goes first.

Whole turns go first, a question and what was answered to it, and the system message stays; what is left is rendered
anew, so that it is a chat as the template writes it. Where the last turn alone is still too long, the start of its
question goes, down to an eighth of the room beside what the generation prompt adds. An answer that leaves less than
that to its question is cut, at its end and then without end token; its question then keeps a quarter of the room.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from tunesmith.chats import Chat
from tunesmith.errors import DataError
from tunesmith.models.chat_align import Aligned, Range, align
from tunesmith.models.chat_rendering import render
from tunesmith.models.chat_spans import find_answers

Cut = Literal["", "prompt", "response"]

_OTHER = "\N{PILCROW SIGN}"
"""A question that starts like hardly any other."""


@dataclass(frozen=True, slots=True)
class Kept:
    """What is left of a chat: tokens, the ranges of whole or (`cut` is `response`) begun answers, where the text was
    joined over a gap (the place of the first token behind it, 0 for none), and what was cut.
    """

    ids: list[int]
    ranges: tuple[Range, ...]
    seam: int
    cut: Cut


def fit_into(tokenizer: Any, chat: Chat, aligned: Aligned, most: int, *, behind: bool = False) -> Kept:
    """At most `most` (2 or more) tokens of a chat; unchanged where it fits. `behind` as `used` has it."""
    if len(used(aligned, behind=behind)) > most:
        shorter = _drop_turns(tokenizer, chat, most, behind=behind)
        chat, aligned = shorter or (chat, aligned)
        if len(used(aligned, behind=behind)) > most:
            return _cut_tokens(tokenizer, chat, aligned, used(aligned, behind=behind), most)
        return Kept(used(aligned, behind=behind), aligned.ranges, 0, "prompt")
    return Kept(used(aligned, behind=behind), aligned.ranges, 0, "")


def used(aligned: Aligned, *, behind: bool = False) -> list[int]:
    """The tokens through the last answer, for nothing behind it bears on it; all with `behind`, or without answer."""
    return aligned.ids[: aligned.ranges[-1].behind] if aligned.ranges and not behind else aligned.ids


def _drop_turns(tokenizer: Any, chat: Chat, most: int, *, behind: bool) -> tuple[Chat, Aligned] | None:
    """The chat without as few of its oldest turns as let it fit, or with its last turn alone where nothing lets it;
    None where there is but one turn, or where what is left cannot be learned from.
    """
    answers = [place for place, each in enumerate(chat.messages) if each.get("role") == "assistant"]
    turns = [place for place, each in enumerate(chat.messages) if each.get("role") == "user"]
    turns = [place for place in turns if place < answers[-1]] if answers else turns
    best = None
    low, high = 1, len(turns) - 1
    while low <= high:
        middle = (low + high) // 2
        shorter = _from_turn(chat, turns[0], turns[middle])
        try:
            found = align(tokenizer, [find_answers(tokenizer, shorter)])[0]
        except DataError:
            return best
        if isinstance(found, DataError):
            return best
        fits = len(used(found, behind=behind)) <= most
        if fits or best is None or len(used(best[1], behind=behind)) > most:
            best = (shorter, found)
        low, high = (low, middle - 1) if fits else (middle + 1, high)
    return best


def _from_turn(chat: Chat, first: int, turn: int) -> Chat:
    """The system message before the first question, if there is one, and all from a later question on."""
    system = [each for each in chat.messages[:first] if each.get("role") == "system"]
    return Chat((*system, *chat.messages[turn:]), chat.tools)


def _cut_tokens(tokenizer: Any, chat: Chat, aligned: Aligned, ids: list[int], most: int) -> Kept:
    if not aligned.ranges:
        return Kept(ids[-most:], (), 0, "prompt")
    first = aligned.ranges[-1].first
    begin = int(ids[0] == tokenizer.bos_token_id and ids.count(ids[0]) == 1)
    asking = _asking(tokenizer, chat, aligned)
    start = min(first, max(most // 4, 1))
    if len(ids) - first > most - max(min(start, most // 8 + asking), 1):
        front = ids[:begin] if start > begin else []
        short = [*front, *ids[first - start + len(front) : first + most - start]]
        answer = Range(start, min(most, start + aligned.ranges[-1].behind - first))
        return Kept(short, (answer,), len(front) if start < first else 0, "response")
    enough = len(ids) - first + max(asking, 1)
    head = _head(tokenizer, chat, aligned)
    head = head if most - head >= enough + 1 else begin if most - begin >= enough else 0
    gone = len(ids) - most
    ranges = tuple(Range(each.first - gone, each.behind - gone) for each in aligned.ranges if each.first > head + gone)
    return Kept([*ids[:head], *ids[head + gone :]], ranges, head, "prompt")


def _asking(tokenizer: Any, chat: Chat, aligned: Aligned) -> int:
    """How many tokens the generation prompt of the last answer has; 0 where that cannot be told."""
    place = max(number for number, each in enumerate(chat.messages) if each.get("role") == "assistant")
    asked = Chat(chat.messages[:place], chat.tools)
    try:
        begin = len(render(tokenizer, asked, ask=False))
    except DataError:
        return 0
    first = aligned.ranges[-1].first
    return sum(stop > begin for stop in aligned.stops[:first])


def _head(tokenizer: Any, chat: Chat, aligned: Aligned) -> int:
    """How many tokens stand before the first question's words: system message, opening of the turn."""
    place = next((number for number, each in enumerate(chat.messages) if each.get("role") == "user"), None)
    if place is None:
        return 0
    other = {**chat.messages[place], "content": _OTHER}
    try:
        texts = [
            render(tokenizer, Chat((*chat.messages[:place], each, *chat.messages[place + 1 :]), chat.tools), ask=False)
            for each in (chat.messages[place], other)
        ]
    except DataError:
        return 0
    alike = next((place for place, pair in enumerate(zip(*texts, strict=False)) if pair[0] != pair[1]), 0)
    return min(sum(stop <= alike for stop in aligned.stops), aligned.ranges[-1].first)
