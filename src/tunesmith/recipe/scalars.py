"""What an unquoted YAML word means, by the core rules of YAML 1.2, with the written text kept beside the value."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

MAX_DIGITS = 40

_NULL = re.compile(r"~|null|Null|NULL|")
_BOOL = re.compile(r"true|True|TRUE|false|False|FALSE")
_INT = re.compile(r"[-+]?[0-9]+")
_BASED = re.compile(r"0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_INFINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")


@dataclass(frozen=True, slots=True)
class Written:
    """A plain scalar that is not (only) a word: its value by the core rules and the text that was written."""

    value: bool | int | float | None
    text: str


def scalar(text: str) -> str | Written:
    """What an unquoted scalar means. ValueError for an integer of more than 40 digits."""
    if _NULL.fullmatch(text):
        return Written(None, text)
    if _BOOL.fullmatch(text):
        return Written(text.lower() == "true", text)
    if _INT.fullmatch(text) or _BASED.fullmatch(text):
        if len(text) > MAX_DIGITS:
            raise ValueError(f"a number of {len(text)} digits; write one of at most {MAX_DIGITS}, or quote it")
        return Written(int(text, 10 if _INT.fullmatch(text) else 0), text)
    if _FLOAT.fullmatch(text):
        return Written(float(text), text)
    if _INFINITE.fullmatch(text):
        return Written(float(text.replace(".", "").lower()), text)
    return text


def plain(value: Any) -> Any:
    """`value` with every Written replaced by what it means."""
    if isinstance(value, Written):
        return value.value
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    return value
