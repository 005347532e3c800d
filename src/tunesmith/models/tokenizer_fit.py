"""How well a tokenizer fits somebody's texts: what it does not know, how finely it splits, what is cut."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

_HAN = "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\u3040-\u30ff\U00020000-\U0003134f"
_UNIT = re.compile(rf"[{_HAN}]|[^\W{_HAN}]+|[^\w\s]")
"""One Chinese or Japanese character, one word, or one mark: what a tokenizer that knows the language takes whole."""


@dataclass(frozen=True, slots=True)
class TokenizerFit:
    """unknown: share of tokens that stand for "not in the vocabulary", 0 to 1 (always 0 for byte-level tokenizers).
    pieces: tokens a unit. unit: `word` or, where most are Chinese or Japanese, `character`; marks count as units.
    median, longest: tokens a text, special ones counted. cut: share of texts longer than `max_length` tokens.
    """

    unknown: float
    pieces: float
    unit: str
    median: int
    longest: int
    max_length: int
    cut: float

    def words(self) -> list[str]:
        """What is worth telling, in words."""
        told = [f"splits a {self.unit} into {self.pieces:.1f} pieces"]
        if self.unknown >= 0.0005:
            told.append(f"does not know {self.unknown:.1%} of the tokens")
        if self.cut >= 0.005:
            told.append(f"{self.cut:.0%} of the texts are cut at {self.max_length} tokens")
        return told


def tokenizer_fit(processor: Any, texts: Sequence[str], lengths: Sequence[int], max_length: int) -> TokenizerFit:
    """texts: both texts of a pair, one after the other. lengths: tokens of each example, uncut. ValueError for none."""
    if not texts or not len(lengths):
        raise ValueError("a tokenizer is measured on at least one text")
    unknown_id = processor.unk_token_id
    byte_level = unknown_id is None or unknown_id in (processor.eos_token_id, processor.pad_token_id)
    tokens = unknown = characters = units = 0
    for text in texts:
        ids = processor(text, add_special_tokens=False, verbose=False)["input_ids"]
        tokens += len(ids)
        unknown += 0 if byte_level else sum(each == unknown_id for each in ids)
        found = _UNIT.findall(text)
        units += len(found)
        characters += sum(bool(re.match(f"[{_HAN}]", unit)) for unit in found)
    ordered = sorted(int(n) for n in lengths)
    return TokenizerFit(
        unknown=unknown / max(tokens, 1),
        pieces=tokens / max(units, 1),
        unit="character" if 2 * characters > units else "word",
        median=ordered[len(ordered) // 2],
        longest=ordered[-1],
        max_length=max_length,
        cut=sum(n > max_length for n in ordered) / len(ordered),
    )
