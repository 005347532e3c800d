"""The check of a row's text cells: the texts as they are and their keys, or what is wrong with them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tunesmith.data.duplicates import keys_of
from tunesmith.data.encoding import wrong_bytes
from tunesmith.data.store import Kept


class Texts:
    """Takes one row's texts after the other; nothing is kept."""

    noun = "text"
    facts: tuple[str, ...] = ()

    def check(
        self, values: Mapping[str, Any], columns: Sequence[str], *, encoding: str, within: Path | None, own_file: bool
    ) -> Kept | str:
        """The texts of these columns with their exact and normalised key, or the reason why they cannot be used.

        encoding: the file's, for messages. within and own_file mean nothing for texts (see `images.py`).
        """
        texts: list[Any] = [values.get(column) for column in columns]
        for column, text in zip(columns, texts, strict=True):
            if type(text) is not str or not text or text.isspace():
                return _fault(text, column, values)
        try:
            return Kept(texts, *keys_of(texts))
        except UnicodeEncodeError:
            return undecodable("".join(texts), encoding)

    def links(self) -> None:
        """Texts stand for themselves."""

    def notes(self) -> list[str]:
        """Nothing is ever mended in a text."""
        return []

    def close(self, *, keep: bool) -> None:
        """Nothing to end."""


def undecodable(text: str, encoding: str) -> str:
    """Why a text with undecodable bytes, or half a surrogate pair, cannot be used."""
    wrong = wrong_bytes(text)[0]
    if wrong <= 0xFF:
        return f"byte 0x{wrong:02x} is not {encoding or 'UTF-8'}"
    return f"U+{wrong:04X}, half of a surrogate pair, is no character"


def _fault(text: Any, column: str, values: Mapping[str, Any]) -> str:
    if column not in values:
        return f'no value for "{column}"'
    if text is None or isinstance(text, str) or text != text:
        return f'the text in "{column}" is empty'
    kind = {bytes: "binary data", bool: "true or false", int: "a number", float: "a number", list: "a list"}
    return f'"{column}" is {kind.get(type(text), "an object")}, not text'
