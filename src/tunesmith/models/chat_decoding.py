"""Tokens from the middle of a text back to exactly their text, special tokens as they are written."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from itertools import groupby
from typing import Any

from tunesmith.errors import ModelError


class Speller:
    """Spells out tokens of one tokenizer as they stand in a text.

    A decoder by itself drops a space at the start, so all is decoded behind another token. Tokenizers of the older
    sentencepiece kind put a space of their own behind every special token; that one is not part of the text.
    """

    def __init__(self, tokenizer: Any) -> None:
        """ModelError where the tokenizer has no end of text."""
        if tokenizer.eos_token_id is None:
            raise ModelError("The tokenizer names no end of text (eos_token), so a model could not learn to stop.")
        self.held = frozenset(tokenizer.added_tokens_decoder)
        """Tokens that the vocabulary holds as a whole: text around them cannot melt into them."""
        self._tokenizer = tokenizer
        self._anchor = int(tokenizer.eos_token_id)
        self._before = self._decode([self._anchor])
        ids = tokenizer(tokenizer.eos_token + "a", add_special_tokens=False)["input_ids"]
        self._spaced = self._behind_anchor(ids[1:]) == " a"

    def text(self, ids: Sequence[int], *, behind: int | None) -> str:
        """The text of tokens that stand behind the token `behind`; None at the start of a text."""
        if not self._spaced:
            return self._behind_anchor(ids)
        found, opened = "", behind is None or behind in self.held
        for special, run in groupby(ids, self.held.__contains__):
            spelled = self._behind_anchor(list(run))
            found += spelled.removeprefix(" ") if opened and not special else spelled
            opened = special
        return found

    def _behind_anchor(self, ids: Sequence[int]) -> str:
        return self._decode([self._anchor, *ids])[len(self._before) :]

    def _decode(self, ids: Sequence[int]) -> str:
        return str(self._tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False))


def same_text(one: str, other: str) -> bool:
    """Whether two texts are equal but for the Unicode form that a tokenizer's normaliser may choose."""
    return one == other or unicodedata.normalize("NFKC", one) == unicodedata.normalize("NFKC", other)
