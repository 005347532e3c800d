"""Reader: turns one file (or folder) into a stream of rows; one file in this folder is one format."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from tunesmith.data.options import DataOptions
from tunesmith.plugin import Plugin, Registry

SAMPLE = 200
"""Rows looked at before reading starts, to find columns."""
SAMPLE_SIZE = 1 << 24
"""Characters and bytes of theirs that are enough."""


class Row(NamedTuple):
    """One row: with values it is good, without it is bad (there is a reason) or blank (there is none).

    line: 1-based line on which the row starts, or the row's number in files without lines. raw: the text of a bad row,
    or its cells. file: the row's own file where that is not the table's.
    """

    line: int
    values: Mapping[str, Any] | None
    reason: str = ""
    raw: Any = ""
    file: str = ""


@dataclass(slots=True)
class Table:
    """One opened file: its columns, and its rows as a stream that can be read once.

    named: False where the file has no header and the columns are called column_1, column_2, ...
    part: "train", "validation" or "test" where the source itself says so. encoding: for messages about wrong bytes.
    facts and notes may still grow while the rows are read.
    """

    file: str
    columns: tuple[str, ...]
    rows: Iterable[Row]
    sample: tuple[Mapping[str, Any], ...] = ()
    named: bool = True
    part: str | None = None
    encoding: str = ""
    facts: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


class Reader(Plugin):
    """Base of all readers. A reader never holds more than a piece of the file in memory and drops no row."""

    kinds: ClassVar[tuple[str, ...]] = ("texts", "images", "chats", "preferences")
    """Which tasks' data this format can hold (`Task.kind`); a reader is asked only for these."""
    endings: ClassVar[tuple[str, ...]] = ()
    """File name endings that mean this format, in small letters with the dot."""
    settings: ClassVar[tuple[str, ...]] = ()
    """Which of the data options `encoding`, `separator`, `header` this format heeds."""

    def recognises(self, path: Path) -> bool:
        """Whether a folder is in this format, or a file is whatever its ending (which `endings` do not name)."""
        return False

    def makes_do(self, path: Path) -> bool:
        """Whether rows can be made of a folder that no reader recognises and that holds no other file to read."""
        return False

    def tables(self, path: Path, options: DataOptions, *, shown: str) -> Iterator[Table]:
        """Open `path`, one table a part; `shown` is its name in messages. DataError where it cannot be opened."""
        raise NotImplementedError

    def sha256(self, path: Path) -> str:
        """Hash of what will be read."""
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()


def peek(rows: Iterator[Row], most: int = SAMPLE) -> tuple[tuple[Mapping[str, Any], ...], Iterator[Row]]:
    """The first good rows' values (at most `most`, few where rows are heavy), and all rows again from the first on."""
    seen: list[Row] = []
    good: list[Mapping[str, Any]] = []
    size = 0
    for row in rows:
        seen.append(row)
        if row.values is not None:
            good.append(row.values)
        size += _size(row.values) + _size(row.raw)
        if len(good) >= most or len(seen) >= 10 * most or size > SAMPLE_SIZE * (1 if good else 16):
            break
    return tuple(good), chain(seen, rows)


def _size(value: Any) -> int:
    """Characters and bytes in a value and in what it holds."""
    if isinstance(value, str | bytes):
        return len(value)
    if isinstance(value, Mapping):
        return sum(map(_size, value)) + sum(map(_size, value.values()))
    return 1 + sum(map(_size, value)) if isinstance(value, list | tuple) else 1


def columns_of(sample: Iterable[Mapping[str, Any]]) -> tuple[str, ...]:
    """Every key in the sample, in order of appearance."""
    return tuple(dict.fromkeys(key for values in sample for key in values))


registry: Registry[Reader] = Registry("tunesmith.data.readers", Reader)
