"""Dotted settings from the command line: `method.rank=16`, read by the same rules as a recipe file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tunesmith.errors import RecipeError
from tunesmith.recipe.read import parse
from tunesmith.recipe.scalars import Written, scalar

OF_ONE = {"model": ("revision", "weights", "backbone"), "data": ("validation", "test", "pictures")}
"""Options of the model, or of the data, that is named beside them; the others suit any."""


def override(settings: Mapping[str, Any], assignment: str, *, short: Mapping[str, str]) -> tuple[dict[str, Any], str]:
    """The settings with `path=value` put in place, and the path.

    short: the option that a bare word stands for, by section (`data: reviews.csv` is `data: {path: reviews.csv}`), so
    that `data.limit=100` goes beside it. Naming the method or task that already stands there keeps its options, and
    another model or other data keep what is said beside them, but for `OF_ONE`.
    RecipeError when the assignment has no `=` or no path.
    """
    path, equals, text = assignment.partition("=")
    keys = path.strip().split(".")
    if not equals or not all(keys):
        raise RecipeError(f'"{assignment}" is not a setting; write it as section.option=value, such as train.epochs=2')
    value = _value(text.strip(), path)
    if len(keys) == 1 and keys[0] in short:
        standing = settings.get(keys[0])
        if isinstance(standing, Mapping) and _text(standing.get(short[keys[0]])) == _text(value):
            return dict(settings), keys[0]
        if isinstance(standing, Mapping) and keys[0] in OF_ONE and _text(value) is not None:
            kept = {key: each for key, each in standing.items() if key not in OF_ONE[keys[0]]}
            return {**settings, keys[0]: {**kept, short[keys[0]]: value}}, keys[0]
    return _placed(settings, keys, value, short.get(keys[0])), ".".join(keys)


def _value(text: str, path: str) -> Any:
    """Lists, mappings and quoted texts as YAML; anything else is one word, whatever signs it holds (`*.csv`)."""
    if text.startswith(("[", "{", "'", '"')):
        try:
            return parse(text)[0]
        except RecipeError as error:
            raise RecipeError(f"{path}={text}: {error}") from error
    try:
        return scalar(text)
    except ValueError as error:
        raise RecipeError(f"{path}={text[:40]}...: {error}") from error


def _placed(settings: Any, keys: list[str], value: Any, short: str | None) -> dict[str, Any]:
    found = dict(settings) if isinstance(settings, Mapping) else {}
    first, *rest = keys
    if rest:
        inner = found.get(first)
        if short and _text(inner) is not None:
            inner = {short: inner}
        value = _placed(inner, rest, value, None)
    found[first] = value
    return found


def _text(value: Any) -> str | None:
    if isinstance(value, Written):
        return value.text or None
    return value if isinstance(value, str) else None
