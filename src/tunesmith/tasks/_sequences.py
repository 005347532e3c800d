"""A prompt and its answers as token sequences: what the chat template makes of them, cut alike, and put into one row of
the encoded data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from tunesmith.chats import UNLEARNED, Chat
from tunesmith.errors import DataError
from tunesmith.tasks._preference import CHOSEN, COLUMNS, MISMATCHED, REJECTED
from tunesmith.types import Example

SHOWN = 60
"""Characters of an answer that the preflight shows."""


class Split(NamedTuple):
    """Token ids of a prompt, and of what was answered to it, end token included."""

    prompt: Sequence[int]
    answer: Sequence[int]


def texts_of(example: Example) -> dict[int, str]:
    """The answers of an example by column. DataError where it has none, or nobody said whether it was liked."""
    inputs = example.inputs
    if "chosen" in inputs and "rejected" in inputs:
        return {CHOSEN: str(inputs["chosen"]), REJECTED: str(inputs["rejected"])}
    if "answer" in inputs and inputs.get("liked") in ("true", "false"):
        return {CHOSEN if inputs["liked"] == "true" else REJECTED: str(inputs["answer"])}
    if "answer" in inputs:
        raise DataError(f"{_where(example)}it is not said whether this answer was liked. Give each row a column "
                        "`liked` that is true or false (data.columns.liked=NAME).")  # fmt: skip
    raise DataError(f"{_where(example)}preference tuning needs a prompt with a `chosen` and a `rejected` answer, or "
                    "with an `answer` and whether it was `liked`; this row has neither.")  # fmt: skip


def _where(example: Example) -> str:
    return f"{example.file}:{example.line}: " if example.file else ""


def split_all(
    examples: Sequence[Example], tokenizer: Any, limit: int | None = None
) -> list[dict[int, Split] | DataError]:
    """Of each example its answers by column, cut to `limit` tokens each; or why it cannot be learned from."""
    from tunesmith.models.chat_tokens import encode_chats

    texts = [texts_of(example) for example in examples]
    asked = [_asked(example) for example in examples]
    chats = [_answered(prompt, text) for prompt, answers in zip(asked, texts, strict=True) for text in answers.values()]
    encoded = iter(encode_chats(tokenizer, chats))
    found: list[dict[int, Split] | DataError] = []
    for prompt, answers in zip(asked, texts, strict=True):
        rows = {column: next(encoded) for column in answers}
        fault = next((row for row in rows.values() if isinstance(row, DataError)), None)
        split = {column: _last_answer(row.input_ids, row.labels) for column, row in rows.items()
                 if not isinstance(row, DataError)}  # fmt: skip
        found.append(fault or (split if limit is None else _cut(split, prompt, tokenizer, limit)))
    return found


def split_whole(examples: Sequence[Example], tokenizer: Any, limit: int | None) -> list[dict[int, Split]]:
    """As `split_all`, of examples that are known to be learnable. DataError, with file and line, where one is not."""
    found: list[dict[int, Split]] = []
    for example, answers in zip(examples, split_all(examples, tokenizer, limit), strict=True):
        if isinstance(answers, DataError):
            raise DataError(f"{_where(example)}{answers}") from answers
        found.append(answers)
    return found


def _asked(example: Example) -> Chat:
    chat = Chat.from_json(str(example.inputs["chat"]))
    return chat if chat.text is None else Chat(({"role": "user", "content": chat.text},))


def _answered(prompt: Chat, text: str) -> Chat:
    return Chat((*prompt.messages, {"role": "assistant", "content": text}), prompt.tools)


def _last_answer(ids: Sequence[int], labels: Sequence[int]) -> Split:
    """Earlier answers of the conversation belong to the prompt; what follows the end token is left out."""
    end = len(labels)
    while end and labels[end - 1] == UNLEARNED:
        end -= 1
    start = end
    while start and labels[start - 1] != UNLEARNED:
        start -= 1
    return Split(ids[:start], ids[start:end])


def _cut(answers: dict[int, Split], prompt: Chat, tokenizer: Any, limit: int) -> dict[int, Split]:
    """The prompt loses its oldest turns (`models/chat_cuts.py`), the same for all answers, so that what is compared is
    the answers alone; where it would be left with less than half of the room, the answers lose their ends instead."""
    asked = max(len(split.prompt) for split in answers.values())
    longest = max(len(split.answer) for split in answers.values())
    room = max(limit - longest, limit // 2)
    if asked > room:
        shorter = _short_prompt(prompt, tokenizer, room)
        answers = {column: Split(shorter, split.answer) for column, split in answers.items()}
    return {column: Split(split.prompt, split.answer[: limit - len(split.prompt)]) for column, split in answers.items()}


def _short_prompt(prompt: Chat, tokenizer: Any, room: int) -> Sequence[int]:
    """The prompt as at most `room` tokens: cut before a short answer, which is then taken off."""
    from tunesmith.models.chat_tokens import encode_chat

    chat = _answered(prompt, "ok")
    whole = encode_chat(tokenizer, chat)
    answer = _last_answer(whole["input_ids"], whole["labels"]).answer
    short = encode_chat(tokenizer, chat, max_length=room + len(answer))
    return _last_answer(short["input_ids"], short["labels"]).prompt[-room:]


def longest(answers: Mapping[int, Split]) -> int:
    """Tokens of the prompt with its longest answer."""
    return max(len(split.prompt) + len(split.answer) for split in answers.values())


def nothing_to_learn(answers: Mapping[int, Split]) -> str:
    """Why nothing can be learned from answers that were cut; empty where something can."""
    kept = [list(split.answer) for split in answers.values()]
    if not all(kept):
        return "an answer has no token"
    same = len(kept) == 2 and kept[0] == kept[1]
    return f"both answers agree in all {len(kept[0]):,} tokens that are kept of them" if same else ""


def mismatched(
    examples: Sequence[Example], split: Sequence[Mapping[int, Split]], limit: int | None
) -> list[Split | None]:
    """Of each example its prompt with an answer to another: to the next with another prompt, in turn its chosen and its
    rejected one, so that the answers lent are those that are judged. None where no prompt differs."""
    asked = [example.inputs["chat"] for example in examples]
    found: list[Split | None] = []
    for number, answers in enumerate(split):
        after = ((number + step) % len(split) for step in range(1, len(split)))
        other = next((n for n in after if asked[n] != asked[number]), None)
        if other is None:
            found.append(None)
            continue
        prompt = next(iter(answers.values())).prompt
        lent = list(split[other].values())[number % len(split[other])]
        found.append(Split(prompt, lent.answer[: None if limit is None else limit - len(prompt)]))
    return found


def joined(answers: Mapping[int, Split]) -> dict[str, list[int]]:
    """One encoded example: the sequences one after the other in `input_ids`, and for each column the tokens it takes of
    them (`sizes`, 0: there is no such answer) and how many of those are the prompt (`starts`)."""
    ids: list[int] = []
    sizes, starts = [0] * COLUMNS, [0] * COLUMNS
    for column, split in sorted(answers.items()):
        ids += [*split.prompt, *split.answer]
        sizes[column], starts[column] = len(split.prompt) + len(split.answer), len(split.prompt)
    return {"input_ids": ids, "sizes": sizes, "starts": starts}


def refuse_single(examples: Sequence[Example], split: Sequence[Mapping[int, Split]], objective: str) -> None:
    """DataError where an example has one answer only, for an objective that compares two."""
    for example, answers in zip(examples, split, strict=True):
        if len(answers) < 2:
            raise DataError(f"{_where(example)}{objective} compares two answers to a prompt, and this row has one, "
                            "which was liked or not. Learn from such rows with task.objective=kto.")  # fmt: skip


def refuse_one_sided(encoded: Any) -> None:
    """DataError where all answers are liked, or none is, and where none has another's to be compared with."""
    liked, disliked, lent = counted(encoded)
    if not (liked and disliked):
        how = "liked" if liked else "disliked"
        raise DataError("kto learns from the difference between liked and disliked answers, and all "
                        f"{liked + disliked:,} training answers are {how}. Add some of the other kind; liked "
                        "ones alone are learned from by task=causal_lm.")  # fmt: skip
    if not lent:
        raise DataError("kto measures how far the model has moved on answers to other prompts, and all training rows "
                        "have one prompt. Add rows with others, or use task.objective=dpo on pairs.")  # fmt: skip


def counted(encoded: Any) -> tuple[int, int, int]:
    """How many chosen (liked), rejected (disliked) and mismatched answers there are."""
    sizes = [encoded[i]["sizes"] for i in range(len(encoded))]
    liked, disliked, lent = (sum(size[column] > 0 for size in sizes) for column in (CHOSEN, REJECTED, MISMATCHED))
    return liked, disliked, lent


def examined(encoded: Any, tokenizer: Any) -> list[tuple[str, bool, str]]:
    """Lines of the preflight: how many answers of each kind, and what is compared in the first example."""
    first, told, at = encoded[0], [], 0
    for column, (size, start) in enumerate(zip(first["sizes"], first["starts"], strict=True)):
        if size and column != MISMATCHED:
            text = tokenizer.decode([int(i) for i in first["input_ids"][at + int(start) : at + int(size)]])
            half = SHOWN // 2 - 1
            short = text if len(text) <= SHOWN else f"{text[:half]}…{text[-half:]}"
            told.append(f"{('chosen', 'rejected')[column]} {short!r}")
        at += int(size)
    chosen, rejected, _ = counted(encoded)
    seen = f"{chosen:,} chosen or liked, {rejected:,} rejected or disliked; of the first example: {'; '.join(told)}"
    return [("answers", bool(told), seen)]
