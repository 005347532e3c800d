"""Chats and texts as tokens, with labels on exactly the answers and their end tokens (READ FIRST of the chat files).

`chat_spans` says where the answers stand in the rendered text, `chat_align` which tokens they are, `chat_cuts` what is
left of a chat that is too long. What cannot be aligned is refused in words, never learned from askew.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Literal

from tunesmith.chats import UNLEARNED, Chat, is_learned
from tunesmith.errors import DataError
from tunesmith.models.chat_align import Aligned, align, tokenise
from tunesmith.models.chat_cuts import Cut, Kept, fit_into, used
from tunesmith.models.chat_decoding import Speller
from tunesmith.models.chat_rendering import ending_of, render, require_offsets
from tunesmith.models.chat_spans import Rendered, find_answers

TrainOn = Literal["responses", "all"]

SHORTEST = 2
"""The least `max_length`: a token to start from and one to learn."""


@dataclass(frozen=True, slots=True)
class EncodedChat:
    """A chat as tokens. `labels[n]` is `input_ids[n]` where that token is learned, else `UNLEARNED`; the first token
    never is, for nothing comes before it. `length` is the number of tokens before any cut, `cut` what was cut off
    (the last answer has an end token unless it is `response`), `answers` how many answers the chat has, and
    `learned` how many carry labels. `rewritten`, `calls` and `unthought` as `Rendered` has them, before any cut.
    """

    input_ids: list[int]
    labels: list[int]
    length: int
    cut: Cut = ""
    answers: int = 0
    learned: int = 0
    rewritten: int = 0
    calls: int = 0
    unthought: int = 0


def encode_chat(
    tokenizer: Any,
    chat: Chat,
    *,
    train_on: TrainOn = "responses",
    max_length: int | None = None,
) -> dict[str, list[int]]:
    """`input_ids` and `labels` of one chat, as `encode_chats` makes them. DataError where it cannot be learned from."""
    found = encode_chats(tokenizer, [chat], train_on=train_on, max_length=max_length)[0]
    if isinstance(found, DataError):
        raise found
    return {"input_ids": found.input_ids, "labels": found.labels}


def encode_chats(
    tokenizer: Any,
    chats: Sequence[Chat],
    *,
    train_on: TrainOn = "responses",
    max_length: int | None = None,
) -> list[EncodedChat | DataError]:
    """Each chat as tokens with labels, in order; a DataError in the place of one that cannot be learned from.

    `train_on` is `responses` (each answer that is not marked as only read, and its end token) or `all` (every token,
    whatever is marked). A plain text is learned whole,
    with the tokenizer's end of text behind it. Longer ones than `max_length` tokens are cut as `chat_cuts` says, a
    plain text at its end. ModelError where the tokenizer or its template cannot be used for any chat.
    """
    if max_length is not None and max_length < SHORTEST:
        raise DataError(f"Chats can be cut to {SHORTEST} tokens or more; asked was {max_length}.")
    require_offsets(tokenizer)
    chats = [_as_marked(chat, train_on) for chat in chats]
    results: dict[int, EncodedChat | DataError] = {}
    rendered: dict[int, Rendered] = {}
    texts = {place: chat.text for place, chat in enumerate(chats) if chat.text is not None}
    for place, encoded in zip(texts, _encode_texts(tokenizer, list(texts.values()), max_length), strict=True):
        results[place] = encoded
    for place, chat in enumerate(chats):
        if chat.text is None:
            try:
                rendered[place] = find_answers(tokenizer, chat)
            except DataError as error:
                results[place] = error
    for place, aligned in zip(rendered, align(tokenizer, list(rendered.values())), strict=True):
        results[place] = _encode(tokenizer, chats[place], rendered[place], aligned, train_on, max_length)
    return [results[place] for place in range(len(chats))]


def encode_prompt(tokenizer: Any, chat: Chat) -> list[int]:
    """The tokens behind which the model answers: the chat without its last answer, and the generation prompt.

    Of a plain text the tokens to go on from. DataError where the template refuses the chat, or a text has no token.
    """
    if chat.text is not None:
        found = _without_end(tokenizer, list(tokenizer(chat.text, verbose=False)["input_ids"]))
        if not found:
            raise DataError("The text is empty: there is nothing to go on from.")
        return found
    return tokenise(tokenizer, [render(tokenizer, chat.prompt(), ask=True)])[0].ids


def end_ids(tokenizer: Any, *configs: Any) -> tuple[int, ...]:
    """The ids at which an answer is over, in ascending order: the tokenizer's end of text, the token with which its
    template ends an answer, and `eos_token_id` of each of `configs` (a model's config, its generation config) that
    names any.
    """
    found = {tokenizer.eos_token_id}
    if tokenizer.chat_template:
        found.add(ending_of(tokenizer).token)
    for config in configs:
        named = getattr(config, "eos_token_id", None)
        found.update(named if isinstance(named, (list, tuple)) else [named])
    size = len(tokenizer)
    return tuple(sorted(each for each in found if isinstance(each, int) and 0 <= each < size))


def learned_text(tokenizer: Any, encoded: Mapping[str, Sequence[int]] | EncodedChat) -> str:
    """What an encoded chat teaches, as text: its labels decoded, special tokens as they are."""
    given = encoded if isinstance(encoded, Mapping) else {"input_ids": encoded.input_ids, "labels": encoded.labels}
    speller, found, place = Speller(tokenizer), "", 0
    for learned, run in groupby(given["labels"], lambda label: label != UNLEARNED):
        ids = list(run)
        found += speller.text(ids, behind=given["input_ids"][place - 1] if place else None) if learned else ""
        place += len(ids)
    return found


def _as_marked(chat: Chat, train_on: TrainOn) -> Chat:
    """The chat through its last answer that is learned; with `all` no answer is marked as only read."""
    answers = [place for place, each in enumerate(chat.messages) if each.get("role") == "assistant"]
    learned = [place for place in answers if is_learned(chat.messages[place])]
    if learned == answers:
        return chat
    if train_on == "all":
        unmarked = ({key: held for key, held in each.items() if key != "learned"} for each in chat.messages)
        return Chat(tuple(unmarked), chat.tools)
    return Chat(chat.messages[: learned[-1] + 1], chat.tools) if learned and learned[-1] < answers[-1] else chat


def _encode(
    tokenizer: Any,
    chat: Chat,
    rendered: Rendered,
    aligned: Aligned | DataError,
    train_on: TrainOn,
    max_length: int | None,
) -> EncodedChat | DataError:
    if isinstance(aligned, DataError):
        return aligned
    everything = train_on == "all"
    ids = used(aligned, behind=everything)
    kept = Kept(ids, aligned.ranges, 0, "")
    if max_length is not None and len(ids) > max_length:
        kept = fit_into(tokenizer, chat, aligned, max_length, behind=everything)
    labels = list(kept.ids) if everything else [UNLEARNED] * len(kept.ids)
    if not everything:
        for first, behind in kept.ranges:
            labels[first:behind] = kept.ids[first:behind]
    for gap in {0, kept.seam}.intersection(range(len(labels))):
        labels[gap] = UNLEARNED
    rewritten, calls = (0, 0) if everything else (rendered.rewritten, rendered.calls)
    counts = (aligned.answers, len(kept.ranges), rewritten, calls, rendered.unthought)
    return EncodedChat(kept.ids, labels, len(ids), kept.cut, *counts)


def _encode_texts(tokenizer: Any, texts: Sequence[str], max_length: int | None) -> Iterator[EncodedChat]:
    for found in tokenizer(list(texts), verbose=False)["input_ids"] if texts else ():
        ids = [*_without_end(tokenizer, list(found)), tokenizer.eos_token_id]
        kept = ids if max_length is None else ids[:max_length]
        yield EncodedChat(kept, [UNLEARNED, *kept[1:]], len(ids), "response" if len(kept) < len(ids) else "")


def _without_end(tokenizer: Any, ids: list[int]) -> list[int]:
    """Tokens of a text without the end of text that some tokenizers put behind every text."""
    return ids[:-1] if len(ids) > 1 and ids[-1] == tokenizer.eos_token_id else ids
