"""The recipe's own wording of a chat: text with fields that a row's columns fill, such as `Headline of: {text:rest}`.

`{column}` is the cell, `{column:first_line}` its first line that is not blank, `{column:rest}` what stands behind that
line; `{{` and `}}` are plain braces. What stands between the braces is a column's name, letter by letter: nothing is
looked up in it and nothing runs.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from tunesmith.data.chat_faults import ChatFault
from tunesmith.errors import did_you_mean

PARTS = ("first_line", "rest")
_BRACES = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")


class Piece(NamedTuple):
    """Plain text, or with a column the field that stands there. part: `first_line`, `rest`, or empty for all of it."""

    text: str
    column: str = ""
    part: str = ""


def pieces(wording: str) -> tuple[Piece, ...]:
    """The wording taken apart. ValueError, saying what to write instead, where it is not well formed."""
    found: list[Piece] = []
    at = 0
    for brace in _BRACES.finditer(wording):
        found.append(Piece(wording[at : brace.start()]))
        at = brace.end()
        match brace.group():
            case "{{" | "}}":
                found.append(Piece(brace.group()[0]))
            case "{" | "}":
                raise ValueError(
                    f'the brace "{brace.group()}" at character {brace.start() + 1} has no partner; write a field as '
                    f'{{column}}, and a plain brace twice, "{brace.group() * 2}"'
                )
            case _:
                found.append(_field(brace[1]))
    found.append(Piece(wording[at:]))
    return tuple(piece for piece in found if piece.text or piece.column)


def columns_of(wording: str) -> tuple[str, ...]:
    """The columns that the wording needs, in order, each once."""
    return tuple(dict.fromkeys(piece.column for piece in pieces(wording) if piece.column))


def filled(wording: Iterable[Piece], values: Mapping[str, Any], names: Mapping[str, str]) -> str:
    """The wording with this row's cells, without outer blanks (of a field that may be empty, say).

    names: from a column as the wording writes it to the column of the table. ChatFault where a cell holds no text.
    """
    found = (
        piece.text if not piece.column else _part(_cell(values, names[piece.column]), piece.part) for piece in wording
    )
    return "".join(found).strip()


def _field(inside: str) -> Piece:
    column, colon, part = inside.rpartition(":")
    column, part = (column, part.strip()) if colon else (part, "")
    if not column.strip():
        raise ValueError('a field has no name: write {column}, or for plain braces "{{" and "}}"')
    if colon and part not in PARTS:
        raise ValueError(
            f"{{{inside}}}: there is no part {part!r} of a cell; "
            f"parts are {', '.join(PARTS)}.{did_you_mean(part, PARTS)}"
        )
    return Piece("", column.strip(), part)


def _cell(values: Mapping[str, Any], column: str) -> str:
    cell = values.get(column)
    if isinstance(cell, str):
        return cell
    if cell is None or (isinstance(cell, float) and not math.isfinite(cell)):
        raise ChatFault(f'no value for "{column}"')
    if isinstance(cell, bool | int | float):
        return json.dumps(cell)
    raise ChatFault(f'"{column}" is {"a list" if isinstance(cell, list | tuple) else "an object"}, not text')


def _part(cell: str, part: str) -> str:
    if not part:
        return cell
    first, _, rest = cell.strip().partition("\n")
    return first.strip() if part == "first_line" else rest.strip()
