"""An answer without what its chat template wraps it in: thoughts that are none, the name of a channel.

Some templates write more than the words between their prompt and an answer (Qwen3 an empty `<think></think>`, gpt-oss
`final`), so a model that learned from them writes that too. It is no part of what was wanted, and none of what a person
asked for.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tunesmith.models.chat_rendering import probe

THOUGHT = "</think>"
"""What ends a model's thoughts; the answer stands behind it."""


def opening_of(tokenizer: Any) -> str:
    """What stands before the words of an answer, as answers are read: without special tokens and outer white space.
    "" where that is nothing, or there is no chat template."""
    if not tokenizer.chat_template:
        return ""
    ids = tokenizer(probe(tokenizer).opening, add_special_tokens=False)["input_ids"]
    return str(tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)).strip()


def unwrapped(text: str, opening: str) -> str:
    """An answer without the template's opening and outer white space; real thoughts stay."""
    return text.strip().removeprefix(opening).strip()


def unwrapped_pieces(pieces: Iterator[str], opening: str) -> Iterator[str]:
    """As `unwrapped`, of an answer that comes piece by piece: what may be the opening is held back until it is told.
    White space around an answer without one stays."""
    held = ""
    for piece in pieces if opening else ():
        held += piece
        bare = held.lstrip()
        if opening.startswith(bare) or not bare.removeprefix(opening).strip():
            continue
        yield bare.removeprefix(opening).lstrip() if bare.startswith(opening) else held
        held = ""
        break
    if held and not held.lstrip().startswith(opening):
        yield held
    yield from pieces


def final_words(text: str) -> str:
    """What of an answer is scored: the words behind its thoughts, where it has both."""
    return text.rpartition(THOUGHT)[2].strip() or text
