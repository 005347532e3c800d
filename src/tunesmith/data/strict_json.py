"""JSON as the standard says: no NaN, no key twice, no nesting without end; each fault is a sentence."""

from __future__ import annotations

import json
import re
from collections import Counter
from typing import Any, NoReturn

DEEPEST = 100
"""Levels of nesting that a row may have."""


def parse(text: str) -> tuple[Any, str]:
    """(value, "") or (None, what is wrong with the text)."""
    if text.count("[") + text.count("{") > DEEPEST and _depth(text) > DEEPEST:
        return None, f"nested deeper than {DEEPEST} levels"
    try:
        return json.loads(text, object_pairs_hook=_no_key_twice, parse_constant=_no_constant), ""
    except json.JSONDecodeError as error:
        return None, f"not valid JSON: {error.msg} at character {error.pos + 1}"
    except ValueError as error:  # a number of thousands of digits, or one of the two below
        return None, f"not valid JSON: {error}"


TOKEN = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"|["\[\]{}]', re.DOTALL)
"""A whole string, a bracket, or the quote of a string that does not end: what nesting is counted by."""


def _depth(text: str) -> int:
    depth = deepest = 0
    for token in TOKEN.finditer(text):
        match token.group():
            case "[" | "{":
                depth += 1
                deepest = max(deepest, depth)
            case "]" | "}":
                depth -= 1
            case '"':
                break
    return deepest


def _no_key_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError(f'the key "{key_twice(pairs)}" stands twice')
    return found


def key_twice(pairs: list[tuple[str, Any]]) -> str:
    """The first key of an object that stands in it again."""
    counts = Counter(key for key, _ in pairs)
    return next(key for key, count in counts.items() if count > 1)


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON value")


def as_row(text: str) -> tuple[dict[str, Any] | None, str]:
    """(the object's keys and values, "") or (None, why the text is no row)."""
    value, wrong = parse(text)
    if wrong:
        return None, wrong
    if not isinstance(value, dict):
        kind = {list: "a list", str: "a string", bool: "true or false", type(None): "null"}.get(type(value), "a number")
        return None, f'{kind}, not an object with column names such as {{"text": ..., "label": ...}}'
    return value, ""
