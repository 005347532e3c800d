"""Labels as names: what one cell means, and what kind of label the column holds.

A label is kept as it is written; only outer blanks go. 1, 1.0, "1" and true come from different kinds of value, and the
kind is decided for the whole column: what at least 99 % of the rows have. The few others are quarantined; without such
a majority the column is refused, for then nobody knows whether 1 and "1" are one class.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from tunesmith.errors import DataError, did_you_mean
from tunesmith.types import Label

TOO_MANY = 100_000
"""Different labels; more are no classes."""
_COMPARED = 100
"""Classes, and characters of a label, up to which a near name is looked for."""


class Read(NamedTuple):
    """A label as found: its kind (`text`, `integer`, `list of text`, ...) and its name, or names for a list."""

    kind: str
    value: str | tuple[str, ...]


def read_label(value: Any, separator: str | None) -> tuple[Read | None, str]:
    """(what a cell means, "") or (None, why it means nothing)."""
    if type(value) is str:
        if separator is not None:
            return _list([part for part in value.split(separator) if part.strip()], "the label is empty")
        name = value.strip()
        return (Read("text", name), "") if name else (None, "the label is empty")
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None, "the label is empty (null)"
    if isinstance(value, list | tuple):
        return _list(value, "")
    if isinstance(value, Mapping):
        return Read("object", json.dumps(value, default=str, ensure_ascii=False)), ""
    return Read(_kind(value), _name(value)), ""


def _list(values: Sequence[Any], if_empty: str) -> tuple[Read | None, str]:
    if not values and if_empty:
        return None, if_empty
    kinds = {_kind(value) for value in values}
    if kinds & {"object", "list", "null"} or len(kinds) > 1:
        return None, f"the list of labels holds {' and '.join(sorted(kinds))}; it must hold names of one kind"
    names = [_name(value).strip() for value in values]
    if not all(names):
        return None, "the list of labels holds an empty name"
    return Read(f"list of {kinds.pop()}" if kinds else "list", tuple(dict.fromkeys(names))), ""


def _kind(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, list | tuple):
        return "list"
    if isinstance(value, Mapping):
        return "object"
    names = {str: "text", bool: "boolean", int: "integer", float: "decimal"}
    return names.get(type(value), type(value).__name__)


def _name(value: Any) -> str:
    return json.dumps(value) if isinstance(value, bool | int | float) else str(value)


def column_kind(found: Sequence[Read], counts: np.ndarray, *, least: float, file: str) -> str:
    """The kind that at least the share `least` of a table's rows have; counts [codes]. DataError if there is none."""
    rows: dict[str, int] = {}
    for read, count in zip(found, counts.tolist(), strict=True):
        if count:
            rows[read.kind] = rows.get(read.kind, 0) + count
    lists = [kind for kind in rows if kind.startswith("list of ")]
    if "list" in rows and lists:  # an empty list is of any kind of list
        rows[max(lists, key=rows.__getitem__)] += rows.pop("list")
    kind = max(rows, key=lambda k: (rows[k], k))
    listed = ", ".join(f"{count} {name}" for name, count in sorted(rows.items(), key=lambda item: -item[1]))
    if kind == "object":
        raise DataError(f"{file}: the labels are objects ({listed}); a label is a name, a number or a list of them.")
    if rows[kind] < least * sum(rows.values()):
        raise DataError(
            f"{file}: the labels are of mixed types ({listed}), so it is not plain which of them are the same class. "
            f"Write all of them in one way, best as text."
        )
    return kind


def is_of(read: Read, kind: str) -> bool:
    """Whether a label fits a column of that kind."""
    return read.kind == kind or (read.kind == "list" and kind.startswith("list"))


def ordered(names: Iterable[str]) -> tuple[str, ...]:
    """Class names in their fixed order: as numbers if all are whole numbers, else by character."""
    found = set(names)
    if all(name.removeprefix("-").isdecimal() and name.isascii() and len(name) < 100 for name in found):
        return tuple(sorted(found, key=lambda name: (int(name), name)))
    return tuple(sorted(found))


def not_allowed(read: Read, allowed: Sequence[str] | None) -> str:
    """Why a label is refused where the recipe lists the classes, or an empty string."""
    if allowed is None:
        return ""
    for name in names_of(read.value):
        if not among(name, allowed):
            few = len(allowed) <= _COMPARED and len(name) <= _COMPARED  # else the search for a near name takes long
            return f'the label "{name}" is not among data.labels.{did_you_mean(name, allowed) if few else ""}'
    return ""


def among(name: str, allowed: Sequence[str]) -> bool:
    """Whether a list of classes, which does not change, holds the name. It is asked of every row, so that of the list
    that was asked last a set is kept."""
    global _asked
    asked = _asked
    if asked[0] is not allowed:
        asked = _asked = (allowed, frozenset(allowed))
    return name in asked[1]


_asked: tuple[Sequence[str], frozenset[str]] = ((), frozenset())


def names_of(label: Label) -> tuple[str, ...]:
    """The class names of a label, one or several."""
    return (label,) if isinstance(label, str) else label
