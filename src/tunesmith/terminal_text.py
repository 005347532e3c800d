"""Words from data, models and files, made safe for a terminal."""

from __future__ import annotations

from unicodedata import category

from rich.markup import escape


def harmless(words: str) -> str:
    """The words without characters that command a terminal; line breaks and tabs stay."""
    return "".join(c for c in words if category(c) != "Cc" or c in "\n\t")


def plain(words: str) -> str:
    """The same, for rich: nothing in it is markup."""
    return escape(harmless(words))
