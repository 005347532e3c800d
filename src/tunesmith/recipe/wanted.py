"""What an option wants, in words: the sentences of error messages and of the starter recipe come from here."""

from __future__ import annotations

import types
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt, MaxLen, MinLen, MultipleOf
from pydantic.fields import FieldInfo

from tunesmith.plugin import Options

_UNIONS: tuple[Any, ...] = (Union, types.UnionType)

_LISTS = (tuple, list, set, frozenset, Sequence)

Member = tuple[Any, tuple[Any, ...]]
"""One alternative of a type with its limits: `(float, (Gt(0),))`."""


def members(annotation: Any, limits: Iterable[Any] = ()) -> tuple[Member, ...]:
    """The alternatives of a type, unions flattened and Annotated unwrapped."""
    if hasattr(annotation, "__metadata__"):  # Annotated[...]
        found = [item for e in annotation.__metadata__ for item in (e.metadata if isinstance(e, FieldInfo) else [e])]
        return members(annotation.__origin__, (*limits, *found))
    if get_origin(annotation) in _UNIONS:
        return tuple(member for part in get_args(annotation) for member in members(part, limits))
    return ((annotation, tuple(limits)),)


def choices(annotation: Any) -> tuple[str, ...]:
    """The words that a type allows by name, itself or in a list."""
    found: list[str] = []
    for kind, _ in members(annotation):
        origin: Any = get_origin(kind)
        if origin is Literal:
            found += map(str, get_args(kind))
        elif origin in _LISTS:
            found += choices(get_args(kind)[0])
    return tuple(found)


def wanted(field: FieldInfo) -> str:
    """What a field accepts: `a number above 0 and at most 10, or "auto"`."""
    parts = [_words(kind, limits) for kind, limits in members(field.annotation, field.metadata)]
    return ", or ".join(dict.fromkeys(parts))


def shown(value: Any) -> str:
    """A value as a person would recognise it, cut to 60 characters."""
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, (list, tuple)):
        return "a list"
    if isinstance(value, bool):
        return str(value).lower()
    if value is None:
        return "nothing"
    text = str(value)
    text = text if len(text) <= 60 else text[:57] + "..."
    return f'"{text}"' if isinstance(value, str) else text


def _words(kind: Any, limits: tuple[Any, ...]) -> str:
    origin = get_origin(kind)
    if origin is Literal:
        return " or ".join(f'"{word}"' if isinstance(word, str) else str(word).lower() for word in get_args(kind))
    if kind is type(None):
        return "null"
    if kind is bool:
        return "true or false"
    if kind is int and (few := _few(limits)):
        return few
    if kind in (int, float):
        return f"a {'whole ' if kind is int else ''}number{_bounds(limits)}"
    if kind in (str, Path):
        return f"a text{_length(limits, 'characters')}"
    if origin in _LISTS:
        words = _words(get_args(kind)[0], ()) if get_origin(get_args(kind)[0]) is Literal else ""
        return f"a list{_length(limits, 'items')}{f' of {words}' if words else ''}"
    if origin in (dict, Mapping) or (isinstance(kind, type) and issubclass(kind, Options)):
        return "settings of the form `key: value`"
    return str(kind)


def _few(limits: tuple[Any, ...]) -> str:
    """`4 or 8`: the multiples between two limits, where that is what is wanted."""
    of = {type(limit): limit for limit in limits}
    if not {Ge, Le, MultipleOf} <= of.keys():
        return ""
    step = of[MultipleOf].multiple_of
    return " or ".join(str(n) for n in range(of[Ge].ge, of[Le].le + 1) if n % step == 0)


def _bounds(limits: tuple[Any, ...]) -> str:
    names = ((Gt, "gt", "above"), (Ge, "ge", "at least"), (Lt, "lt", "below"), (Le, "le", "at most"))
    found = [
        f"{word} {getattr(limit, key):,}" for kind, key, word in names for limit in limits if isinstance(limit, kind)
    ]
    return " " + " and ".join(found) if found else ""


def _length(limits: tuple[Any, ...], unit: str) -> str:
    least = [limit.min_length for limit in limits if isinstance(limit, MinLen)]
    most = [limit.max_length for limit in limits if isinstance(limit, MaxLen)]
    found = [f"at least {n}" for n in least if n > 1] + [f"at most {n}" for n in most]
    if found:
        return f" of {' and '.join(found)} {unit}"
    return " that is not empty" if least else ""
