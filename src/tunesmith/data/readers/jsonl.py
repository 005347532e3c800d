"""JSON Lines: one JSON object a line, its keys the columns (.jsonl, .ndjson).

A line that is not an object, is not valid JSON, names a key twice or holds a bare NaN is quarantined with its reason.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tunesmith.data.encoding import find_encoding, line_end, lines, open_text
from tunesmith.data.options import DataOptions
from tunesmith.data.readers.base import Reader, Row, Table, columns_of, peek
from tunesmith.data.strict_json import as_row
from tunesmith.errors import DataError


class JsonLines(Reader):
    """Reads one object a line."""

    endings = (".jsonl", ".ndjson")
    settings = ("encoding",)

    def tables(self, path: Path, options: DataOptions, *, shown: str) -> Iterator[Table]:
        """One table."""
        found = find_encoding(path, options.encoding)
        if path.stat().st_size == 0:
            raise DataError(f"{shown} is empty (0 bytes): there is no row in it.")
        sample, rows = peek(_rows(path, found.name))
        yield Table(
            file=shown,
            columns=columns_of(sample),
            rows=rows,
            sample=sample,
            encoding=found.name,
            facts={"encoding": found.name},
            notes=[found.note] if found.note else [],
        )


def _rows(path: Path, encoding: str) -> Iterator[Row]:
    with open_text(path, encoding, newline="") as stream:
        newline = line_end(stream.read(1 << 18))
    with open_text(path, encoding, newline=newline) as stream:
        for number, line in enumerate(lines(stream, path), 1):
            text = line.strip()
            if not text:
                yield Row(number, None)
                continue
            values, reason = as_row(text)
            yield Row(number, values, reason, "" if values is not None else text)
