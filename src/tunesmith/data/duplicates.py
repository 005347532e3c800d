"""When two rows say the same: keys of texts, and counts of duplicates, leaks and contradictions from the keys alone.

A key is 64 bits of BLAKE2b, so it depends on the text only, never on the process. Among ten million rows the chance
that any two different texts share one is about 3 in a million.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from hashlib import blake2b

import numpy as np


def normalised(text: str) -> str:
    """The text as duplicates are compared: Unicode NFC, no outer blanks, no case."""
    if not text.isascii():
        text = unicodedata.normalize("NFC", text)
    return text.strip().casefold()


def key_of(texts: Sequence[str]) -> bytes:
    """8-byte key of the texts as they are; UnicodeEncodeError where one holds half a surrogate pair."""
    joined = texts[0] if len(texts) == 1 else "\0\1".join(texts)
    return blake2b(joined.encode(), digest_size=8).digest()


def keys_of(texts: Sequence[str]) -> tuple[bytes, bytes]:
    """Keys of the exact and of the normalised texts."""
    exact = key_of(texts)
    plain = [normalised(text) for text in texts]
    return exact, exact if plain == list(texts) else key_of(plain)


def as_numbers(keys: bytes | bytearray) -> np.ndarray:
    """Keys that were appended one after the other, as uint64 [rows]."""
    return np.frombuffer(keys, dtype="<u8").astype(np.uint64, copy=False)


def repeated(keys: np.ndarray) -> int:
    """Rows beyond the first of each key [rows]."""
    return len(keys) - len(np.unique(keys))


def shared(keys: np.ndarray, others: np.ndarray) -> int:
    """Rows of `keys` whose key also stands in `others`."""
    return int(np.isin(keys, others).sum())


def contradicted(keys: np.ndarray, labels: np.ndarray) -> int:
    """Keys [rows] that stand with more than one label [rows]."""
    if not len(keys):
        return 0
    order = np.lexsort((labels, keys))
    same_key = keys[order][1:] == keys[order][:-1]
    other_label = labels[order][1:] != labels[order][:-1]
    return len(np.unique(keys[order][1:][same_key & other_label]))
