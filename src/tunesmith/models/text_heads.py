"""Tokens of texts that are cut at their end, without reading long ones to that end.

Tokenizers work from blank to blank: what stands before a blank becomes the same tokens whatever follows it. So of a
text of which 128 tokens are kept a thousand characters are enough, while a whole article takes several times as long.
A text whose kept tokens end behind its last blank there is read whole, and the first long text of each call is read
both ways: where a tokenizer works otherwise, all are read whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

CHARACTERS = 8
"""Read of a long text for each token that is kept: nearly twice what the tokens of English texts have."""


def encode_texts(tokenizer: Any, texts: Sequence[str], *, max_length: int) -> Any:
    """What `tokenizer(texts, truncation=True, max_length=max_length)` gives; max_length counts special tokens too."""
    whole = {"truncation": True, "max_length": max_length, "padding": False}
    heads = [text[: CHARACTERS * max_length] for text in texts]
    long = [place for place, text in enumerate(texts) if len(heads[place]) < len(text)]
    if not long or not tokenizer.is_fast or tokenizer.truncation_side != "right":
        return tokenizer(list(texts), **whole)
    encoded = tokenizer(heads, **whole)
    unsure = [place for place in long if not _ends_before_blank(encoded.encodings[place], heads[place], max_length)]
    first = next((place for place in long if place not in set(unsure)), None)
    if first is not None and tokenizer([texts[first]], **whole)["input_ids"][0] != encoded["input_ids"][first]:
        return tokenizer(list(texts), **whole)
    again = tokenizer([texts[place] for place in unsure], **whole) if unsure else {}
    for key, values in again.items():
        for place, value in zip(unsure, values, strict=True):
            encoded[key][place] = value
    return encoded


def _ends_before_blank(encoding: Any, head: str, max_length: int) -> bool:
    """Whether as many tokens as are kept were found, and behind the last of them there is a blank."""
    if len(encoding.ids) < max_length:
        return False
    end = max(stop for _, stop in encoding.offsets)
    return any(character.isspace() for character in head[end:])
