"""Chats and texts as encoded rows, beside their tokens what became of their answers, and that told in words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from tunesmith.chats import UNLEARNED, Chat
from tunesmith.errors import TunesmithError
from tunesmith.tasks.base import Encoded
from tunesmith.types import Example

FACTS = 5
"""Numbers in a row's `answers`: answers; of those that were to be learned the ones that the template rewrites, and
of these the calls of tools; answers whose thoughts the template leaves out; whether the last answer lost its end."""


def chat_rows(
    examples: Sequence[Example], tokenizer: Any, *, train_on: Any, limit: int | None
) -> list[Encoded | TunesmithError]:
    """Token ids, labels and `answers` of each, or why it cannot be learned from."""
    from tunesmith.models.chat_tokens import encode_chats

    chats = [Chat.from_json(str(example.inputs["chat"])) for example in examples]
    found = encode_chats(tokenizer, chats, train_on=train_on, max_length=limit)
    return [each if isinstance(each, TunesmithError) else _row(each) for each in found]


def window(row: Encoded, number: int, limit: int) -> Encoded:
    """One window of a row that was split, 0-based; what became of the answers stands in the first that is kept."""
    part = slice(number * limit, (number + 1) * limit)
    facts = row["answers"] if number == next(learned_windows(row, limit), 0) else [0] * FACTS
    return {"input_ids": row["input_ids"][part], "labels": row["labels"][part], "answers": facts}


def learned_windows(row: Encoded, limit: int) -> Iterator[int]:
    """The windows of a row, 0-based, in which something is learned, which their first token never is."""
    labels = row["labels"]
    for number in range(-(-len(labels) // limit)):
        if any(label != UNLEARNED for label in labels[number * limit + 1 : (number + 1) * limit]):
            yield number


def told(encoded: Any, tokenizer: Any) -> list[tuple[str, bool, str]]:
    """Lines of the preflight: what is learned of the first example and how much of all, and what is not."""
    from tunesmith.models.chat_tokens import learned_text

    seen = [encoded[i] for i in range(0, len(encoded), 1 + len(encoded) // 200)]
    learned = sum(label != UNLEARNED for row in seen for label in row["labels"][1:])
    tokens = sum(len(row["input_ids"]) for row in seen)
    text = learned_text(tokenizer, seen[0])
    short = text if len(text) <= 60 else f"{text[:28]}…{text[-28:]}"
    share = f"{learned / max(1, tokens):.0%} of the tokens; of the first example: {short!r}"
    return [("what is learned", learned > 0, share), *(("answers", True, words) for words in _not_learned(encoded))]


def _not_learned(encoded: Any) -> list[str]:
    """What is not learned of the answers of all rows, in words, one idea a line."""
    if hasattr(encoded, "summed"):  # on disk, where a row at a time takes seconds
        sums = encoded.summed("answers", FACTS)
    else:
        sums = map(sum, zip(*(row["answers"] for row in encoded), strict=True))
    answers, rewritten, calls, unthought, cut = map(int, sums)
    found = []
    if rewritten:
        which = f" ({calls:,} of them calls of tools)" if calls else ""
        found.append(
            f"{rewritten:,} of {answers:,} answers{which} are read, not learned, because the chat template writes them "
            "otherwise once the chat goes on; a row of the chat up to each would teach them"
        )
    if unthought:
        found.append(
            f"the thoughts (reasoning_content) of {unthought:,} of {answers:,} answers are not learned, because the "
            "chat template leaves them out; another template may write them"
        )
    if cut:
        found.append(f"{cut:,} of {len(encoded):,} rows lose the end of their last answer to task.max_length")
    return found


def _row(chat: Any) -> Encoded:
    facts = [
        chat.answers,
        chat.rewritten,
        chat.calls,
        chat.unthought,
        int(bool(chat.answers) and chat.cut == "response"),
    ]
    return {"input_ids": chat.input_ids, "labels": chat.labels, "answers": facts}
