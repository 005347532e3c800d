"""Long texts are read as far as they are needed, and give the very tokens that they would give whole."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.chat_tokenizers import MAKERS, tokenizer_named

from tunesmith.models.text_heads import CHARACTERS, encode_texts

WORDS = ["the", "film", "was", "slow", "café", "naïve", "深度", "学习", "unbelievably", "I'm", "?!", "a" * 40, "\u0301"]


def texts(seed: int) -> list[str]:
    """Short ones, long ones, one without a blank, one of blanks, one whose beginning is a single endless word."""
    draw = random.Random(seed)

    def words(count: int, blank: str) -> str:
        return blank.join(draw.choice(WORDS) for _ in range(count))

    return [
        words(5, " "), words(400, " "), words(400, ""), words(300, "\n"), " " * 3000, "x" * 2000 + words(50, " "),
        words(40, " ") + "y" * 3000, words(250, "\u3000"), "", *(words(draw.randint(1, 300), " ") for _ in range(12)),
    ]  # fmt: skip


@pytest.mark.parametrize("name", [*MAKERS, "bert", "roberta"])
@pytest.mark.parametrize("length", [3, 8, 24])
def test_the_tokens_are_those_of_the_whole_text(name: str, length: int, tiny_folders: Callable[[str], Path]) -> None:
    from transformers import AutoTokenizer

    tokenizer: Any = tokenizer_named(name) if name in MAKERS else AutoTokenizer.from_pretrained(tiny_folders(name))
    for seed in range(4):
        given = texts(seed)
        whole = tokenizer(given, truncation=True, max_length=length, padding=False)
        found = encode_texts(tokenizer, given, max_length=length)
        assert {key: list(values) for key, values in found.items()} == {key: list(v) for key, v in whole.items()}


class Counted:
    """A tokenizer that notes how many characters it was given."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer, self.characters = tokenizer, 0
        self.is_fast, self.truncation_side = tokenizer.is_fast, tokenizer.truncation_side

    def __call__(self, given: list[str], **options: Any) -> Any:
        self.characters += sum(map(len, given))
        return self.tokenizer(given, **options)


def test_long_texts_are_not_read_to_their_end(tiny: Callable[..., Any]) -> None:
    tokenizer = Counted(tiny("bert").processor)
    given = ["a good film " * 1000] * 20
    encode_texts(tokenizer, given, max_length=16)
    assert tokenizer.characters == 20 * CHARACTERS * 16 + len(given[0])  # one of them both ways


def test_a_tokenizer_that_looks_ahead_reads_whole_texts(tiny: Callable[..., Any]) -> None:
    class LooksAhead(Counted):
        """The first token tells how long the text is."""

        def __call__(self, given: list[str], **options: Any) -> Any:
            found = super().__call__(given, **options)
            for text, ids in zip(given, found["input_ids"], strict=True):
                ids[0] = len(text)
            return found

    given = ["a good film " * 100] * 3
    found = encode_texts(LooksAhead(tiny("bert").processor), given, max_length=16)
    assert [ids[0] for ids in found["input_ids"]] == [1200] * 3
