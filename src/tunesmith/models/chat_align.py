"""From characters to tokens: the whole chat tokenised once, and the tokens of each answer in it, checked.

The tokens before an answer must be those of its prompt alone, for it is behind them that the model will have to
answer. Where the tokenizer joined the end of the prompt with the start of the answer, or split the prompt in another
way because of what follows, the two are tokenised apart, as they come to be when the model is asked.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from tunesmith.errors import DataError
from tunesmith.models.chat_decoding import Speller, same_text
from tunesmith.models.chat_spans import Rendered, Span


class Range(NamedTuple):
    """Tokens of an answer: its first, and the one behind its end token."""

    first: int
    behind: int


@dataclass(frozen=True, slots=True)
class Aligned:
    """A rendered chat as tokens, the characters that each stands for, and the tokens of each answer that is learned.

    `answers` counts also those that are not.
    """

    ids: list[int]
    starts: list[int]
    stops: list[int]
    ranges: tuple[Range, ...]
    answers: int


class _Tokens(NamedTuple):
    ids: list[int]
    starts: list[int]
    stops: list[int]


def align(tokenizer: Any, chats: Sequence[Rendered]) -> list[Aligned | DataError]:
    """Each chat as tokens with the ranges of its answers; a `DataError` in the place of one that cannot be aligned."""
    speller = Speller(tokenizer)
    tokens = tokenise(tokenizer, [each.text for each in chats])
    tails = [_tails(chat, found, speller.held) for chat, found in zip(chats, tokens, strict=True)]
    wanted = sorted({end.text for each in tails for end in each})
    alone = dict(zip(wanted, tokenise(tokenizer, wanted), strict=True))
    results: list[Aligned | DataError] = []
    for chat, found, ends in zip(chats, tokens, tails, strict=True):
        apart = [
            span for span, end in zip(chat.spans, ends, strict=True) if not end.alone or alone[end.text].ids != end.ids
        ]
        try:
            kept = _apart(tokenizer, chat.text, apart, speller) if apart else found
            ranges = tuple(_range(chat.text, span, kept, speller) for span in chat.spans)
        except DataError as error:
            results.append(error)
        else:
            results.append(Aligned(*kept, ranges, chat.answers))
    return results


def tokenise(tokenizer: Any, texts: Sequence[str]) -> list[_Tokens]:
    """Texts as a template writes them to tokens with their characters; nothing is added or cut."""
    if not texts:
        return []
    found = tokenizer(
        list(texts),
        add_special_tokens=False,
        return_offsets_mapping=True,
        return_attention_mask=False,
        padding=False,
        truncation=False,
        verbose=False,
    )
    pairs = zip(found["input_ids"], found["offset_mapping"], strict=True)
    return [_Tokens(list(ids), *_covering(offsets)) for ids, offsets in pairs]


def _covering(offsets: Sequence[tuple[int, int]]) -> tuple[list[int], list[int]]:
    """Where tokens start and stop. Some tokenizers leave out the spaces that a token stands for: here it has them."""
    stops = [stop for _, stop in offsets]
    return [min(start, stop) for (start, _), stop in zip(offsets, [0, *stops], strict=False)], stops


class _End(NamedTuple):
    """The end of a prompt from the last token that text cannot melt into: its text, its tokens in the whole, and
    whether they stop where it does.
    """

    text: str
    ids: list[int]
    alone: bool


def _tails(chat: Rendered, tokens: _Tokens, held: frozenset[int]) -> list[_End]:
    """The end of each answer's prompt."""
    found = []
    for start, _ in chat.spans:
        behind = bisect_left(tokens.starts, start)
        first = next((place for place in range(behind - 1, 0, -1) if tokens.ids[place] in held), 0)
        begin = tokens.starts[first] if first else 0
        alone = behind > 0 and tokens.stops[behind - 1] <= start
        found.append(_End(chat.text[begin:start], tokens.ids[first:behind], alone))
    return found


def _apart(tokenizer: Any, text: str, spans: Sequence[Span], speller: Speller) -> _Tokens:
    """A text's tokens with a border before each span, behind which it goes on as if the tokenizer had not stopped."""
    ids, starts, stops = (list(each) for each in tokenise(tokenizer, [text[: spans[0].start]])[0])
    ends = [*(span.start for span in spans[1:]), len(text)]
    for (start, stop), end in zip(spans, ends, strict=True):
        piece = _going_on(tokenizer, text[start:end], stop - start, ids[-1] if ids else None, speller)
        ids += piece.ids
        starts += [start + each for each in piece.starts]
        stops += [start + each for each in piece.stops]
    return _Tokens(ids, starts, stops)


def _going_on(tokenizer: Any, text: str, size: int, behind: int | None, speller: Speller) -> _Tokens:
    """The tokens of a text that follows the token `behind`: tokenised behind something that does not melt into it.

    Tokenizers differ in what that is: some put a space in front of a text, some also behind a special token. The
    text's first `size` letters, an answer, must be spelled out by the tokens.
    """
    for before in (tokenizer.eos_token, "\n", ":", "a"):
        ids, starts, stops = tokenise(tokenizer, [before + text])[0]
        first = bisect_left(starts, len(before))
        if first and stops[first - 1] <= len(before):
            answer = ids[first : bisect_left(stops, len(before) + size) + 1]
            if same_text(speller.text(answer, behind=behind), text[:size]):
                shifted = [[each - len(before) for each in offsets[first:]] for offsets in (starts, stops)]
                return _Tokens(ids[first:], *shifted)
    message = (
        f"The tokenizer joins the end of the prompt with the start of the answer {text[:40]!r}, and "
        "cannot be kept from it. Let the template end its prompt with a line break, or start the answer otherwise."
    )
    raise DataError(message)


def _range(text: str, span: Span, tokens: _Tokens, speller: Speller) -> Range:
    """The tokens of one answer; DataError where they are not its words and end token, no more and no less."""
    first, behind = bisect_left(tokens.starts, span.start), bisect_left(tokens.stops, span.stop) + 1
    wanted = text[span.start : span.stop]
    ids = tokens.ids[first:behind]
    if not ids or ids[-1] not in speller.held:
        raise DataError(
            f"The tokenizer does not keep the end token of the answer ...{wanted[-40:]!r} apart from its words."
        )
    decoded = speller.text(ids, behind=tokens.ids[first - 1] if first else None)
    if not same_text(decoded, wanted):
        message = (
            f"The tokenizer cannot say this answer: {wanted[:80]!r} becomes {decoded[:80]!r}. Where its vocabulary "
            "lacks characters, take them out, or choose a model whose tokenizer knows them."
        )
        raise DataError(message)
    return Range(first, behind)
